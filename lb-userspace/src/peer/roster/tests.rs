use super::*;

const OWN: u64 = 100;

fn heartbeat(boot: u64, sequence: u64, echo: u64) -> Heartbeat {
    Heartbeat {
        boot,
        sequence,
        echo,
        settled: true,
        node: "node2".into(),
        range: 0..=u64::MAX,
        unhealthy: vec![],
        drains: vec![],
    }
}

fn roster() -> Roster {
    let mut roster = Roster::new(OWN);
    roster.follow([Arc::from("node2"), Arc::from("node3")].iter());
    roster
}

const ACCEPTED: Heard = Heard::Accepted {
    health_changed: false,
    back: false,
};

/// A roster that believes in life 7 of node2, and the moment it last heard it.
fn acquainted() -> (Roster, Instant) {
    let (mut roster, now) = (roster(), Instant::now());
    assert_eq!(roster.hear(&heartbeat(7, 1, OWN), now), ACCEPTED);
    roster.judge(now);
    (roster, now)
}

fn after(milliseconds: u64, start: Instant) -> Instant {
    start + Duration::from_millis(milliseconds)
}

/// Looks every 50 ms up to a moment.
fn judge_until(roster: &mut Roster, start: Instant, milliseconds: u64) -> Vec<Arc<str>> {
    let looks = (50..=milliseconds).step_by(50);
    looks
        .flat_map(|ms| roster.judge(after(ms, start)))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn two_agents_believe_each_other_after_two_heartbeats_each() {
    let now = Instant::now();
    let (mut one, mut two) = (Roster::new(1), Roster::new(2));
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
        [Arc::from("node2")]
    );
    assert_eq!(roster.suspected(), ["node2".into()].into());
}

#[test]
fn a_node_that_was_never_heard_is_not_suspected() {
    let (mut roster, start) = (roster(), Instant::now());
    assert!(judge_until(&mut roster, start, 5000).is_empty());
}

#[test]
fn three_heartbeats_in_a_row_clear_a_suspicion() {
    let (mut roster, start) = acquainted();
    judge_until(&mut roster, start, 1000);
    assert_eq!(roster.hear(&heartbeat(7, 2, OWN), after(1000, start)), ACCEPTED);
    assert_eq!(roster.hear(&heartbeat(7, 3, OWN), after(1100, start)), ACCEPTED);
    assert_eq!(roster.suspected().len(), 1);
    let back = Heard::Accepted {
        health_changed: false,
        back: true,
    };
    assert_eq!(roster.hear(&heartbeat(7, 4, OWN), after(1200, start)), back);
    assert!(roster.suspected().is_empty());
}

#[test]
fn our_own_pause_says_nothing_about_the_others() {
    let (mut roster, start) = acquainted();
    assert!(roster.judge(after(5000, start)).is_empty());
    assert!(judge_until(&mut roster, after(5000, start), 300).is_empty());
    assert_eq!(judge_until(&mut roster, after(5300, start), 50).len(), 1);
}

#[test]
fn a_heartbeat_replaces_what_it_speaks_of_and_nothing_else() {
    let (mut roster, now) = acquainted();
    let say = |sequence, range, unhealthy: &[u64]| Heartbeat {
        range,
        unhealthy: unhealthy.to_vec(),
        ..heartbeat(7, sequence, OWN)
    };
    let changed = Heard::Accepted {
        health_changed: true,
        back: false,
    };
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
