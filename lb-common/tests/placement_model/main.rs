//! The placement model: whatever happens to the set of members and to the nodes' views of it, every packet of a live
//! flow reaches its holder, or is dropped, or is lost for a reason that `docs/flow-placement.md` admits. Run over the
//! functions that the kernel programs' tables are made with; and each rule is broken once, to see that it is needed.

mod clients;
mod cluster;
mod outcome;
mod packets;
mod random;
mod rules;
mod source;
mod view;
mod world;

use cluster::Action;
use outcome::{Outcome, Report, Residual};
use rules::{Asked, MS, Rules, SECOND, Stamps, TRUE};
use world::{Regime, play};

/// One deviation at a time, no view behind for longer than W, no more nodes than fit into a chain: nothing may be lost.
const CALM: Regime = Regime {
    nodes: 3,
    most_nodes: 6,
    members: 4,
    most_members: 12,
    batch: 1,
    gap: (1200 * MS, 1600 * MS),
    lag: 350 * MS,
    outage: 120 * MS,
    drastic: false,
    often: None,
    heaviest: 8,
    duplicates: 10,
    datagrams: 0,
    flows: 100,
    flows_at_once: 60,
    length: 60 * SECOND,
};

/// Changes fall over each other, agents are down for seconds, whole services drain.
const ROUGH: Regime = Regime {
    nodes: 5,
    most_nodes: 10,
    members: 8,
    most_members: 24,
    gap: (0, 700 * MS),
    outage: 3 * SECOND,
    drastic: true,
    datagrams: 15,
    flows_at_once: 20,
    ..CALM
};

fn run(rules: Rules, regime: Regime, seeds: u64) -> Report {
    let mut total = Report::default();
    for seed in 0..seeds {
        total.add(play(seed, rules, regime));
    }
    // Shown when a claim fails.
    println!("{rules:?}: {} established, {:?}", total.established, total.counts);
    total
}

/// The rules lose nothing where these lose a flow, in one of the first `seeds` runs. Only what datagrams may always lose
/// is overlooked.
fn needed(instead: Rules, regime: Regime, seeds: u64) {
    for seed in 0..seeds {
        let kept = play(seed, TRUE, regime);
        assert_eq!(kept.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(
            kept.lost() - datagrams_lost(&kept),
            0,
            "seed {seed}: {:?}",
            kept.counts
        );
        if play(seed, instead, regime).of(Outcome::Violation) > 0 {
            return;
        }
    }
    panic!("nothing is lost without it");
}

fn datagrams_lost(report: &Report) -> u64 {
    [
        Residual::DatagramsBornApart,
        Residual::DatagramsDiverted,
        Residual::OldDatagrams,
    ]
    .map(|residual| report.of(Outcome::Lost(residual)))
    .iter()
    .sum()
}

#[test]
fn nothing_is_lost_while_one_thing_changes_at_a_time() {
    let report = run(TRUE, CALM, 6);
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.lost(), 0);
    // Not because nothing happened.
    assert!(report.established > 15_000);
    for (outcome, least) in [
        (Outcome::Direct, 100_000),
        (Outcome::Chased, 10_000),
        (Outcome::Hinted, 10_000),
        (Outcome::Moved, 50),
        (Outcome::Diverted, 500),
    ] {
        assert!(report.of(outcome) > least, "{outcome:?}");
    }
}

#[test]
fn unknown_stamps_cost_chases_and_no_flow_while_the_nodes_fit_into_a_chain() {
    let unknown = Rules {
        stamps: Stamps::Unknown,
        ..TRUE
    };
    let report = run(unknown, CALM, 2);
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.lost(), 0);
    // Nothing excludes anybody, so that even what the rules may lose otherwise is found.
    let rough = Regime {
        most_nodes: 6,
        outage: 0,
        ..ROUGH
    };
    let report = run(unknown, rough, 2);
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.of(Outcome::Lost(Residual::TwoDeviations)), 0);
    assert_eq!(report.of(Outcome::Lost(Residual::BeyondSix)), 0);
}

#[test]
fn every_loss_in_rough_times_is_one_that_the_rules_admit() {
    let report = run(TRUE, ROUGH, 8);
    assert_eq!(report.violations, Vec::<String>::new());
    for residual in [
        Residual::TaskGone,
        Residual::Lag,
        Residual::BeyondSix,
        Residual::TwoDeviations,
        Residual::NoneActive,
    ] {
        assert!(
            report.of(Outcome::Lost(residual)) > 0,
            "{residual:?} did not happen"
        );
    }
}

#[test]
fn a_view_is_never_to_blame_while_it_is_not_behind_for_longer_than_w() {
    let report = run(
        TRUE,
        Regime {
            outage: 0,
            lag: 450 * MS,
            ..ROUGH
        },
        3,
    );
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.of(Outcome::Lost(Residual::Lag)), 0);
}

#[test]
fn datagrams_keep_to_their_task_and_leave_one_that_has_gone() {
    let report = run(
        TRUE,
        Regime {
            datagrams: 100,
            ..CALM
        },
        4,
    );
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.of(Outcome::Rescued) > 100);
    assert_eq!(report.lost(), datagrams_lost(&report));
}

#[test]
fn the_same_seed_plays_the_same() {
    let short = Regime {
        length: 10 * SECOND,
        ..ROUGH
    };
    assert_eq!(run(TRUE, short, 2).counts, run(TRUE, short, 2).counts);
}

#[test]
fn one_excluder_is_not_enough() {
    needed(Rules { excluders: 1, ..TRUE }, CALM, 40);
}

#[test]
fn members_must_warm() {
    let growing = Regime {
        often: Some(Action::Add),
        nodes: 6,
        most_members: 40,
        lag: 450 * MS,
        outage: 0,
        ..CALM
    };
    needed(Rules { warming: 0, ..TRUE }, growing, 40);
}

#[test]
fn the_last_activation_must_be_known() {
    let flapping = Regime {
        often: Some(Action::Flap),
        ..CALM
    };
    needed(
        Rules {
            stamps: Stamps::OnlyFirst,
            ..TRUE
        },
        flapping,
        40,
    );
}

#[test]
fn the_first_activation_must_be_known() {
    let flapping = Regime {
        often: Some(Action::Flap),
        ..CALM
    };
    needed(
        Rules {
            stamps: Stamps::OnlyLast,
            ..TRUE
        },
        flapping,
        40,
    );
}

#[test]
fn the_current_and_the_previous_head_are_not_enough() {
    needed(
        Rules {
            asked: Asked::CurrentAndPrevious,
            ..TRUE
        },
        CALM,
        40,
    );
}

#[test]
fn excluders_of_one_node_must_count_once() {
    let suspicious = Regime {
        often: Some(Action::Suspect),
        most_nodes: 3,
        ..CALM
    };
    needed(
        Rules {
            by_node: false,
            ..TRUE
        },
        suspicious,
        40,
    );
}

/// Whom nobody hears may be alive, and have the flow.
#[test]
fn suspected_nodes_must_be_asked_too() {
    let suspicious = Regime {
        often: Some(Action::Suspect),
        ..CALM
    };
    needed(
        Rules {
            ask_suspected: false,
            ..TRUE
        },
        suspicious,
        40,
    );
}

#[test]
fn raised_weights_must_warm() {
    let shifting = Regime {
        often: Some(Action::Reweight),
        heaviest: 64,
        lag: 450 * MS,
        outage: 0,
        ..CALM
    };
    needed(
        Rules {
            raises_warm: false,
            ..TRUE
        },
        shifting,
        40,
    );
}

#[test]
fn an_acknowledgement_must_fit_the_syn_ack_closely() {
    let repeating = Regime {
        duplicates: 100,
        often: Some(Action::Drain),
        lag: 450 * MS,
        outage: 0,
        ..CALM
    };
    needed(
        Rules {
            loose_handshake: true,
            ..TRUE
        },
        repeating,
        40,
    );
}

/// From three tasks to thirty on twelve nodes at once: were any of the new ones taken for a possible holder of old
/// flows, six nodes would not be enough to ask.
const GROWING: Regime = Regime {
    nodes: 12,
    most_nodes: 12,
    members: 3,
    most_members: 4,
    batch: 27,
    often: Some(Action::Add),
    flows: 500,
    length: 8 * SECOND,
    ..CALM
};

/// Established connections, and those lost because the holder was beyond six nodes.
fn beyond_six(rules: Rules, regime: Regime, seeds: u64) -> (u64, u64) {
    let report = run(rules, regime, seeds);
    assert_eq!(report.violations, Vec::<String>::new());
    (report.established, report.of(Outcome::Lost(Residual::BeyondSix)))
}

#[test]
fn members_of_one_revision_are_known_to_have_come_together() {
    let unobserved = Rules {
        observed: false,
        ..TRUE
    };
    let (_, whole) = beyond_six(unobserved, GROWING, 8);
    let apart = Rules {
        whole_revisions: false,
        ..unobserved
    };
    let (_, apart) = beyond_six(apart, GROWING, 8);
    assert!(whole == 0 && apart > 500, "{whole} {apart}");
}

#[test]
fn without_stamps_what_a_node_saw_itself_keeps_the_holders_in_the_chain() {
    let seen = Rules {
        stamps: Stamps::Unknown,
        ..TRUE
    };
    let unseen = Rules {
        observed: false,
        ..seen
    };
    let (all, kept) = beyond_six(seen, GROWING, 8);
    let (_, lost) = beyond_six(unseen, GROWING, 8);
    assert!(
        lost > 500 && kept * 20 < lost,
        "{kept} instead of {lost} of {all}"
    );
    // Those few are lost to agents that were restarted, and know no more what came when.
    for (members, batch) in [(3, 6), (3, 27), (9, 27)] {
        let steady = Regime {
            members,
            most_members: members as usize + 1,
            batch,
            outage: 0,
            ..GROWING
        };
        assert_eq!(beyond_six(seen, steady, 4).1, 0, "{members} and {batch}");
    }
}

#[test]
fn datagrams_for_another_than_the_own_head_must_be_chased() {
    let slow = Regime {
        datagrams: 100,
        gap: (3 * SECOND, 6 * SECOND),
        length: 120 * SECOND,
        flows: 200,
        lag: 480 * MS,
        outage: 0,
        ..CALM
    };
    needed(
        Rules {
            chase_disputed: false,
            ..TRUE
        },
        slow,
        40,
    );
}

/// The same claims over many more runs: `cargo test -p lb-common --test placement_model -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn nothing_is_lost_in_hundreds_of_runs_either() {
    for (regime, seeds) in [(CALM, 200), (ROUGH, 50), (Regime { outage: 0, ..ROUGH }, 50)] {
        let report = run(TRUE, regime, seeds);
        assert_eq!(report.violations, Vec::<String>::new());
        assert!(regime.drastic || report.lost() == 0);
    }
    let many = Regime {
        datagrams: 100,
        ..CALM
    };
    let report = run(TRUE, many, 100);
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.lost(), datagrams_lost(&report));
}
