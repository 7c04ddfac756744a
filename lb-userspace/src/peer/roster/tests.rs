use super::*;

const OWN: u64 = 100;

fn heartbeat(boot: u64, sequence: u64, echo: u64) -> Heartbeat {
    Heartbeat {
        boot,
        sequence,
        echo,
        settled: true,
        by_proxy: false,
        node: "node2".into(),
        range: 0..=u64::MAX,
        unhealthy: vec![],
        drains: vec![],
    }
}

fn roster(now: Instant) -> Roster {
    let mut roster = Roster::new(OWN, BTreeSet::new(), now);
    roster.follow([Arc::from("node2"), Arc::from("node3")].iter());
    roster
}

const ACCEPTED: Heard = Heard::Accepted {
    health_changed: false,
};

/// A roster that believes in life 7 of node2, and the moment it last heard it.
fn acquainted() -> (Roster, Instant) {
    let now = Instant::now();
    let mut roster = roster(now);
    assert_eq!(roster.hear(&heartbeat(7, 1, OWN), now), ACCEPTED);
    roster.judge(now);
    (roster, now)
}

fn after(milliseconds: u64, start: Instant) -> Instant {
    start + Duration::from_millis(milliseconds)
}

/// Looks every 50 ms up to a moment; what node2 became meanwhile.
fn judge_until(roster: &mut Roster, start: Instant, milliseconds: u64) -> Vec<Presence> {
    let looks = (50..=milliseconds).step_by(50);
    let changes = looks.flat_map(|ms| roster.judge(after(ms, start)));
    changes
        .inspect(|change| assert_eq!(*change.node, *"node2"))
        .map(|change| change.now)
        .collect()
}

/// The same, while node2's kernel refuses a heartbeat at each of these moments.
fn refuse_until(roster: &mut Roster, start: Instant, refusals: &[u64], milliseconds: u64) -> Vec<Presence> {
    let looks = (50..=milliseconds).step_by(50);
    looks
        .flat_map(|ms| {
            if refusals.contains(&ms) {
                roster.refuse("node2", after(ms, start));
            }
            roster.judge(after(ms, start))
        })
        .map(|change| change.now)
        .collect()
}

#[test]
fn two_agents_believe_each_other_after_two_heartbeats_each() {
    let now = Instant::now();
    let (mut one, mut two) = (
        Roster::new(1, BTreeSet::new(), now),
        Roster::new(2, BTreeSet::new(), now),
    );
    one.follow([Arc::from("node2")].iter());
    two.follow([Arc::from("node1")].iter());
    let from_one = |sequence, echo| Heartbeat {
        node: "node1".into(),
        ..heartbeat(1, sequence, echo)
    };
    assert_eq!(
        two.hear(&from_one(1, one.echo("node2").unwrap()), now),
        Heard::Unproven
    );
    assert_eq!(
        one.hear(&heartbeat(2, 1, two.echo("node1").unwrap()), now),
        ACCEPTED
    );
    assert_eq!(two.hear(&from_one(2, one.echo("node2").unwrap()), now), ACCEPTED);
}

#[test]
fn a_replayed_heartbeat_is_not_heard() {
    let (mut roster, now) = acquainted();
    assert_eq!(roster.hear(&heartbeat(7, 1, OWN), now), Heard::Old);
    assert_eq!(roster.hear(&heartbeat(7, 0, OWN), now), Heard::Old);
    // A former life of the same node, recorded when this agent had another boot.
    assert_eq!(roster.hear(&heartbeat(6, 99, OWN - 1), now), Heard::Unproven);
}

#[test]
fn an_agent_that_restarts_is_believed_as_soon_as_it_echoes() {
    let (mut roster, now) = acquainted();
    assert_eq!(roster.hear(&heartbeat(8, 1, 0), now), Heard::Unproven);
    assert_eq!(roster.echo("node2"), Some(8));
    assert_eq!(roster.hear(&heartbeat(8, 2, OWN), now), ACCEPTED);
}

#[test]
fn three_missed_heartbeats_make_a_node_suspected() {
    let (mut roster, start) = acquainted();
    assert!(judge_until(&mut roster, start, 300).is_empty());
    assert_eq!(
        judge_until(&mut roster, after(300, start), 50),
        [Presence::Suspected]
    );
    assert_eq!(roster.suspected(), ["node2".into()].into());
}

#[test]
fn a_node_that_was_never_heard_is_not_suspected() {
    let start = Instant::now();
    let mut roster = roster(start);
    assert!(judge_until(&mut roster, start, 5000).is_empty());
}

#[test]
fn three_heartbeats_in_a_row_clear_a_suspicion() {
    let (mut roster, start) = acquainted();
    judge_until(&mut roster, start, 1000);
    for (sequence, ms) in [(2, 1000), (3, 1100)] {
        assert_eq!(
            roster.hear(&heartbeat(7, sequence, OWN), after(ms, start)),
            ACCEPTED
        );
        assert!(judge_until(&mut roster, after(ms, start), 50).is_empty());
    }
    assert_eq!(roster.hear(&heartbeat(7, 4, OWN), after(1200, start)), ACCEPTED);
    assert_eq!(
        judge_until(&mut roster, after(1200, start), 50),
        [Presence::Heard]
    );
    assert!(roster.suspected().is_empty());
}

#[test]
fn heartbeats_with_gaps_clear_no_suspicion() {
    let (mut roster, start) = acquainted();
    judge_until(&mut roster, start, 1000);
    for sequence in 2..10 {
        let now = after(500 + 250 * sequence, start);
        assert_eq!(roster.hear(&heartbeat(7, sequence, OWN), now), ACCEPTED);
        assert!(judge_until(&mut roster, now, 200).is_empty());
    }
}

/// As Linux answers: six in a row, then one a second.
const REFUSALS: [u64; 10] = [150, 250, 350, 450, 550, 650, 1100, 2100, 3200, 4200];

#[test]
fn a_node_whose_agent_is_away_is_not_suspected_as_long_as_its_kernel_answers() {
    let (mut roster, start) = acquainted();
    assert_eq!(
        refuse_until(&mut roster, start, &REFUSALS, 4200),
        [Presence::Away]
    );
    assert_eq!(roster.reports()["node2"].heard, Some(start));
    // And then the node dies.
    assert!(judge_until(&mut roster, after(4200, start), 1500).is_empty());
    assert_eq!(
        judge_until(&mut roster, after(5700, start), 50),
        [Presence::Suspected]
    );
}

#[test]
fn an_agent_that_comes_back_is_heard_again_and_its_node_was_never_suspected() {
    let (mut roster, start) = acquainted();
    assert_eq!(
        refuse_until(&mut roster, start, &REFUSALS, 1100),
        [Presence::Away]
    );
    let now = after(1150, start);
    assert_eq!(roster.hear(&heartbeat(8, 1, OWN), now), ACCEPTED);
    assert_eq!(judge_until(&mut roster, now, 50), [Presence::Heard]);
}

#[test]
fn an_agent_that_takes_long_to_be_believed_again_has_its_node_not_suspected() {
    let (mut roster, start) = acquainted();
    assert_eq!(
        refuse_until(&mut roster, start, &[150, 1100], 2500),
        [Presence::Away]
    );
    for sequence in 1..20 {
        let now = after(2400 + 100 * sequence, start);
        assert_eq!(roster.hear(&heartbeat(8, sequence, 0), now), Heard::Unproven);
        assert!(judge_until(&mut roster, now, 100).is_empty());
    }
}

#[test]
fn an_agent_that_takes_over_has_its_node_not_suspected_until_it_is_believed() {
    let (mut roster, start) = acquainted();
    let unproven = |roster: &mut Roster, milliseconds| {
        let now = after(milliseconds, start);
        let heard = roster.hear(&heartbeat(8, milliseconds, 0), now);
        assert_eq!(heard, Heard::Unproven);
        judge_until(roster, now, 100)
    };
    // The first one comes late, and none is believed for longer than heartbeats may be missed.
    assert!(judge_until(&mut roster, start, 250).is_empty());
    for milliseconds in [250, 350, 450] {
        assert!(unproven(&mut roster, milliseconds).is_empty());
    }
    let now = after(550, start);
    assert_eq!(roster.hear(&heartbeat(8, 550, OWN), now), ACCEPTED);
    assert!(judge_until(&mut roster, now, 300).is_empty());
    // One that is never believed, as where somebody replays it, keeps suspicion off for a while.
    let (mut roster, _) = acquainted();
    for milliseconds in (100..1500).step_by(100) {
        assert!(unproven(&mut roster, milliseconds).is_empty());
    }
    assert_eq!(unproven(&mut roster, 1500), [Presence::Suspected]);
    assert!(unproven(&mut roster, 1600).is_empty());
}

#[test]
fn a_refusal_from_before_the_silence_does_not_count() {
    let (mut roster, start) = acquainted();
    roster.refuse("node2", after(50, start));
    assert_eq!(roster.hear(&heartbeat(7, 2, OWN), after(100, start)), ACCEPTED);
    // Found late.
    roster.refuse("node2", after(90, start));
    let heard = after(100, start);
    assert_eq!(judge_until(&mut roster, heard, 350), [Presence::Suspected]);
}

#[test]
fn three_refusals_in_a_row_clear_a_suspicion_too() {
    let (mut roster, start) = acquainted();
    judge_until(&mut roster, start, 1000);
    // A node mended before its agent runs again; the second refusal comes too late for a row.
    let refusals = [1050, 2600, 3600, 4600];
    assert!(refuse_until(&mut roster, start, &refusals[..3], 4550).is_empty());
    let rest = refuse_until(&mut roster, after(4550, start), &[50], 50);
    assert_eq!(rest, [Presence::Away]);
    assert!(roster.suspected().is_empty());
}

#[test]
fn a_node_that_was_only_ever_heard_to_refuse_is_suspected_when_it_does_no_longer() {
    let start = Instant::now();
    let mut roster = roster(start);
    assert_eq!(
        refuse_until(&mut roster, start, &[100], 1700),
        [Presence::Away, Presence::Suspected]
    );
}

#[test]
fn our_own_pause_says_nothing_about_the_others() {
    let (mut roster, start) = acquainted();
    assert!(roster.judge(after(5000, start)).is_empty());
    assert!(judge_until(&mut roster, after(5000, start), 300).is_empty());
    assert_eq!(
        judge_until(&mut roster, after(5300, start), 50),
        [Presence::Suspected]
    );
}

#[test]
fn a_heartbeat_replaces_what_it_speaks_of_and_nothing_else() {
    let (mut roster, now) = acquainted();
    let say = |sequence, range, unhealthy: &[u64]| Heartbeat {
        range,
        unhealthy: unhealthy.to_vec(),
        ..heartbeat(7, sequence, OWN)
    };
    let changed = Heard::Accepted { health_changed: true };
    assert_eq!(roster.hear(&say(2, 0..=u64::MAX, &[1, 5, 9]), now), changed);
    assert_eq!(roster.hear(&say(3, 0..=5, &[1]), now), changed);
    assert_eq!(roster.unhealthy("node2"), [1, 9].into());
    assert_eq!(roster.hear(&say(4, 6..=u64::MAX, &[9]), now), ACCEPTED);
}

#[test]
fn an_agent_that_has_just_started_takes_nothing_back() {
    let (mut roster, now) = acquainted();
    roster.hear(
        &Heartbeat {
            unhealthy: vec![1],
            ..heartbeat(7, 2, OWN)
        },
        now,
    );
    roster.hear(
        &Heartbeat {
            settled: false,
            by_proxy: false,
            ..heartbeat(8, 1, OWN)
        },
        now,
    );
    assert_eq!(roster.unhealthy("node2"), [1].into());
    roster.hear(&heartbeat(8, 2, OWN), now);
    assert!(roster.unhealthy("node2").is_empty());
}

#[test]
fn nodes_outside_the_cluster_are_strangers_and_former_nodes_are_forgotten() {
    let (mut roster, now) = acquainted();
    let strange = Heartbeat {
        node: "node9".into(),
        ..heartbeat(7, 1, OWN)
    };
    assert_eq!(roster.hear(&strange, now), Heard::Stranger);
    roster.follow([Arc::from("node3")].iter());
    assert_eq!(roster.hear(&heartbeat(7, 2, OWN), now), Heard::Stranger);
    assert!(!roster.reports().contains_key("node2"));
}

#[test]
fn a_node_says_whether_it_has_packet_programs_and_may_say_otherwise_in_its_next_life() {
    let (mut roster, now) = acquainted();
    assert!(roster.by_proxy().is_empty());
    let proxying = Heartbeat {
        by_proxy: true,
        ..heartbeat(7, 2, OWN)
    };
    assert_eq!(roster.hear(&proxying, now), ACCEPTED);
    assert_eq!(roster.by_proxy(), [Arc::from("node2")].into());
    assert_eq!(roster.hear(&heartbeat(8, 1, OWN), now), ACCEPTED);
    assert!(roster.by_proxy().is_empty());
}

#[test]
fn a_node_is_as_an_agent_before_this_one_heard_it_until_it_is_heard() {
    let now = Instant::now();
    let mut roster = Roster::new(OWN, ["node2", "node9"].map(Arc::from).into(), now);
    roster.follow(["node2", "node3"].map(Arc::from).iter());
    assert_eq!(roster.by_proxy(), [Arc::from("node2")].into());
    assert_eq!(roster.hear(&heartbeat(7, 1, OWN), now), ACCEPTED);
    assert!(roster.by_proxy().is_empty());
}
