//! Certificates that change while agents talk.

use std::time::Duration;

use super::authority::{Authority, Files};
use super::cluster::{Follower, Manager, picture};
use crate::source::stream::identity::{Identity, KEY, Trouble};

/// Files are looked at once a second.
const NOTICED: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn a_new_authority_ends_connections_and_makes_new_ones_without_a_restart() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let mut follower = Follower::start(&authority.worker("w1"), &[manager.address()]);
    follower.has(&picture("web.1")).await;
    let before = follower
        .reports("a connection", |report| report.connected.is_some())
        .await
        .connected;
    // As a swarm does it: new pairs with a certificate that vouches for the new authority, then the new authority alone.
    let (next, crossed) = authority.rotate();
    let with_crossed = |files: Files, roots: String| Files {
        certificate: format!("{}{crossed}", files.certificate),
        roots,
        ..files
    };
    with_crossed(next.manager("m1"), authority.pem()).write(manager.directory.path());
    with_crossed(next.worker("w1"), authority.pem() + &next.pem()).write(follower.directory.path());
    let other = |report: &crate::source::stream::FollowReport| {
        report.connected.is_some() && report.connected != before
    };
    let between = follower
        .reports("a connection by the new pairs", other)
        .await
        .connected;
    with_crossed(next.manager("m1"), next.pem()).write(manager.directory.path());
    with_crossed(next.worker("w1"), next.pem()).write(follower.directory.path());
    let again = |report: &crate::source::stream::FollowReport| {
        report.connected.is_some() && report.connected != between
    };
    follower.reports("a connection by the new authority", again).await;
    manager.publisher.publish(picture("web.2"));
    follower.has(&picture("web.2")).await;
    // A node that was left behind is a stranger now.
    let mut old = Follower::start(&authority.worker("w2"), &[manager.address()]);
    let error = old.error().await;
    assert!(error.contains("it refuses this node's certificate"), "{error}");
}

#[tokio::test]
async fn a_renewed_pair_disturbs_nobody() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let mut follower = Follower::start(&authority.worker("w1"), &[manager.address()]);
    follower.has(&picture("web.1")).await;
    authority.manager("m1").write(manager.directory.path());
    tokio::time::sleep(NOTICED).await;
    assert!(follower.following.report.borrow().connected.is_some());
    // Who comes now sees the new one.
    let mut later = Follower::start(&authority.worker("w2"), &[manager.address()]);
    let report = later
        .reports("a connection", |report| report.connected.is_some())
        .await;
    assert_eq!(report.connected.unwrap().node, "m1");
    manager.publisher.publish(picture("web.2"));
    follower.has(&picture("web.2")).await;
    assert_eq!(follower.received("full").0, 1);
}

#[tokio::test]
async fn a_node_that_joins_later_is_waited_for() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let nothing = Files {
        certificate: String::new(),
        key: String::new(),
        roots: String::new(),
    };
    let mut follower = Follower::start(&nothing, &[manager.address()]);
    let error = follower.error().await;
    assert!(error.contains("holds no certificate"), "{error}");
    authority.worker("w1").write(follower.directory.path());
    follower.has(&picture("web.1")).await;
}

#[tokio::test]
async fn a_key_that_does_not_fit_leaves_the_old_pair() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let files = authority.manager("m1");
    Files {
        key: authority.manager("m1").key,
        ..authority.manager("m1")
    }
    .write(manager.directory.path());
    tokio::time::sleep(NOTICED).await;
    let mut follower = Follower::start(&authority.worker("w1"), &[manager.address()]);
    follower.has(&picture("web.1")).await;
    files.write(manager.directory.path());
}

#[test]
fn what_is_wrong_with_files_is_said() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let files = authority.manager("m1");
    files.write(directory.path());
    let load = || Identity::load(directory.path());
    assert_eq!(load().unwrap().own.node, "m1");
    let key = |text: &str| std::fs::write(directory.path().join(KEY), text).unwrap();
    key(&authority.manager("m1").key);
    assert!(matches!(load(), Err(Trouble::OtherKey(_))), "{:?}", load().err());
    key(&files
        .key
        .replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE")
        .replace("END PRIVATE", "END ENCRYPTED PRIVATE"));
    let locked = load().unwrap_err();
    assert!(locked.to_string().contains("autolock"), "{locked}");
    key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(matches!(load(), Err(Trouble::Damaged { .. })));
    std::fs::remove_file(directory.path().join(KEY)).unwrap();
    assert!(matches!(load(), Err(Trouble::Io { .. })));
}
