//! What an engine says of its swarm, and how far it is believed.

use super::super::super::belief::DOUBT;
use super::*;

fn alone() -> Local {
    Local::default()
}

/// In a swarm, but it does not say as whom.
fn unsettled(error: &str) -> Membership {
    Membership {
        node: "".into(),
        address: None,
        manager: false,
        managers: Vec::new(),
        error: Some(error.to_owned()),
    }
}

impl Rig {
    /// The manager n1, which knows its swarm's own id.
    async fn manager() -> Self {
        let mut rig = Self::start("n1");
        *rig.world.cluster.lock().unwrap() = Some("c1".into());
        rig.says(Some(member(true)));
        assert!(super::address(&*rig.settled().await).is_some());
        rig
    }

    /// The agent starts anew on what it kept.
    async fn again(self) -> Self {
        self.following.abort();
        // What it keeps is written when it ends.
        let _ = self.following.await;
        Self::start_in(self.runtime, "n1")
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_swarm_serves_nothing_of_it() {
    let mut rig = Rig::manager().await;
    // Containers of tasks go first.
    let here = Local {
        swarm: Some(member(true)),
        ..alone()
    };
    rig.local.send_replace(Some(Arc::new(here)));
    assert!(!rig.settled().await.services.is_empty());
    rig.local.send_replace(Some(Arc::new(alone())));
    tokio::time::sleep(DOUBT).await;
    let snapshot = rig.settled().await;
    assert!(snapshot.services.is_empty() && snapshot.nodes.is_empty());
    assert_eq!(rig.report().place, "in no swarm");
    assert_eq!(rig.report().error, None);
    assert_eq!(rig.world.published.lock().unwrap().last(), Some(&None));
    let mut rig = rig.again().await;
    assert!(rig.settled().await.services.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_has_no_certificate_any_more_has_left() {
    let mut rig = Rig::manager().await;
    *rig.world.left.lock().unwrap() = true;
    rig.local.send_replace(Some(Arc::new(alone())));
    assert!(rig.settled().await.services.is_empty());
    assert_eq!(rig.report().place, "in no swarm");
}

#[tokio::test(start_paused = true)]
async fn to_be_in_no_swarm_for_a_moment_changes_nothing() {
    let mut rig = Rig::manager().await;
    let before = rig.view.current();
    rig.says(None);
    tokio::time::sleep(DOUBT / 2).await;
    assert_eq!(rig.settled().await, before);
    rig.says(Some(member(true)));
    assert_eq!(rig.settled().await, before);
    rig.says(None);
    tokio::time::sleep(DOUBT / 2).await;
    let mut rig = rig.again().await;
    assert_eq!(rig.settled().await.services, before.services);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_know_its_node_changes_nothing() {
    let mut rig = Rig::manager().await;
    let before = rig.view.current();
    for (error, words) in [
        (
            "the swarm is locked: docker swarm unlock",
            "the swarm of this node is locked",
        ),
        (
            "rpc error: The swarm does not have a leader.",
            "the swarm has no leader",
        ),
        (
            "the engine cannot reach its swarm",
            "the engine cannot reach its swarm",
        ),
    ] {
        *rig.world.lists.lock().unwrap() = Err(Trouble::NotManager);
        rig.says(Some(unsettled(error)));
        tokio::time::sleep(DOUBT * 2).await;
        assert_eq!(rig.settled().await, before);
        let told = rig.report().error.unwrap();
        assert!(told.contains(words), "{told}");
        *rig.world.lists.lock().unwrap() = Ok(lists());
        rig.says(Some(member(true)));
        tokio::time::sleep(DEMOTED).await;
        assert_eq!(rig.settled().await, before);
        assert_eq!(rig.report().error, None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_outlives_an_engine_that_starts() {
    let rig = Rig::manager().await;
    let before = rig.view.current();
    let mut rig = rig.again().await;
    rig.says(Some(unsettled("the engine has not joined its swarm yet")));
    assert_eq!(rig.settled().await.services, before.services);
    rig.says(Some(member(false)));
    assert_eq!(rig.settled().await.services, before.services);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_of_another_swarm_is_served_until_that_is_known() {
    for (cluster, served) in [("c1", true), ("c2", false)] {
        let mut rig = Rig::manager().await.again().await;
        *rig.world.cluster.lock().unwrap() = Some(cluster.into());
        assert!(!rig.settled().await.services.is_empty());
        rig.says(Some(member(false)));
        assert_eq!(!rig.settled().await.services.is_empty(), served, "{cluster}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_the_same_swarm_again_goes_on() {
    let mut rig = Rig::manager().await;
    let before = rig.view.current();
    let again = Membership {
        node: "n1-with-another-id".into(),
        ..member(false)
    };
    rig.says(Some(again));
    assert_eq!(rig.settled().await, before);
    // Another swarm has nothing to do with it.
    *rig.world.cluster.lock().unwrap() = Some("c2".into());
    rig.says(Some(member(false)));
    assert!(rig.settled().await.services.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_cannot_see_tells_nobody_and_listens_to_another() {
    let mut rig = Rig::manager().await;
    *rig.world.lists.lock().unwrap() = Err(Trouble::NoLeader);
    rig.moved.send_modify(|count| *count += 1);
    rig.settled().await;
    assert_eq!(rig.world.published.lock().unwrap().len(), 1);
    tokio::time::sleep(BLIND).await;
    let told = swarm_picture();
    assert_eq!(
        *rig.world.published.lock().unwrap(),
        [Some(Arc::clone(&told)), None]
    );
    assert!(!rig.settled().await.services.is_empty());
    rig.world.told.send_replace(Heard {
        desired: Some(Arc::default()),
        from: Some("n2".to_owned()),
        ..Heard::default()
    });
    assert!(rig.settled().await.services.is_empty());
    let report = rig.report();
    assert!(
        report.place.ends_with("stream from n2 meanwhile"),
        "{}",
        report.place
    );
    assert!(report.error.is_some());
    // It sees again.
    *rig.world.lists.lock().unwrap() = Ok(lists());
    tokio::time::sleep(DEMOTED).await;
    assert!(super::address(&*rig.settled().await).is_some());
    assert_eq!(
        *rig.world.published.lock().unwrap(),
        [Some(Arc::clone(&told)), None, Some(told)]
    );
    assert_eq!(rig.report().error, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_what_others_tell_is_left_out() {
    let mut rig = Rig::start("n1");
    rig.says(Some(member(false)));
    let mut wrong = (*swarm_picture()).clone();
    let web = Arc::make_mut(wrong.services.get_mut("web").unwrap());
    let mut stray = web.backends[0].clone();
    (stray.task, stray.node) = ("web.2.t2".into(), "nowhere".into());
    web.backends.push(stray);
    rig.world.told.send_replace(Heard {
        desired: Some(Arc::new(wrong)),
        ..Heard::default()
    });
    let snapshot = rig.settled().await;
    assert_eq!(snapshot.services["web"].backends.len(), 1);
    let notes = rig.report().notes;
    assert!(notes[0].what.contains("web.2.t2"), "{notes:?}");
}
