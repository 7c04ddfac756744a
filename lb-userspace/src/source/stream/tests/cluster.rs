//! Agents of a small swarm in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;

use super::authority::{Authority, Files};
use crate::door::Door;
use crate::model::Desired;
use crate::model::testing::{backend, web};
use crate::source::stream::{
    Certificates, Figures, Follow, FollowReport, Following, Publisher, Serving, follow, serve,
};

pub struct Manager {
    _serving: Serving,
    address: SocketAddr,
    pub publisher: Publisher,
    pub figures: Arc<Figures>,
    pub directory: TempDir,
}

pub struct Follower {
    pub following: Following,
    pub figures: Arc<Figures>,
    pub managers: watch::Sender<Vec<SocketAddr>>,
    pub directory: TempDir,
}

/// What is long enough for anything that happens at once.
pub const SOON: Duration = Duration::from_secs(10);

/// One service whose only task is this.
pub fn picture(task: &str) -> Arc<Desired> {
    Arc::new(web(vec![backend(task, "node1")]))
}

impl Manager {
    pub async fn start(files: &Files) -> Self {
        let door = Door::new((Ipv4Addr::LOCALHOST, 0).into());
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::watch(files.write(directory.path()));
        let (publisher, figures) = (Publisher::new(), Arc::new(Figures::default()));
        let serving = serve(&door, certificates, publisher.clone(), Arc::clone(&figures));
        Self {
            _serving: serving,
            address: door.address().await.unwrap(),
            publisher,
            figures,
            directory,
        }
    }

    pub async fn telling(authority: &Authority, task: &str) -> Self {
        let manager = Self::start(&authority.manager(&format!("manager-of-{task}"))).await;
        manager.publisher.publish(picture(task));
        manager
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until so many were refused for this reason.
    pub async fn has_refused(&self, label: &str, count: u64) {
        let seen = tokio::time::timeout(SOON, async {
            while self.refused(label) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(
            seen.await.is_ok(),
            "{:?} while waiting for {label}",
            self.figures.report()
        );
    }

    pub fn refused(&self, label: &str) -> u64 {
        let report = self.figures.report();
        report
            .refused
            .iter()
            .find(|(known, _)| *known == label)
            .unwrap()
            .1
    }
}

impl Follower {
    pub fn start(files: &Files, managers: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::watch(files.write(directory.path()));
        let figures = Arc::new(Figures::default());
        let (managers, listed) = watch::channel(managers.to_vec());
        let following = follow(Follow {
            node: "node9".into(),
            managers: listed,
            certificates,
            figures: Arc::clone(&figures),
            known: None,
        });
        Self {
            following,
            figures,
            managers,
            directory,
        }
    }

    pub async fn has(&mut self, wanted: &Desired) {
        let has = |desired: &Option<Arc<Desired>>| desired.as_deref() == Some(wanted);
        let seen = tokio::time::timeout(SOON, self.following.desired.wait_for(has)).await;
        if seen.is_err() {
            panic!(
                "{:?} while waiting for {wanted:?}",
                self.following.report.borrow()
            );
        }
    }

    pub async fn reports(&mut self, what: &str, wanted: impl FnMut(&FollowReport) -> bool) -> FollowReport {
        let report = self.following.report.wait_for(wanted);
        let seen = tokio::time::timeout(SOON, report).await.ok();
        let seen = seen.map(|report| report.unwrap().clone());
        seen.unwrap_or_else(|| panic!("{:?} while waiting for {what}", self.following.report.borrow()))
    }

    /// What it says when nobody can be followed.
    pub async fn error(&mut self) -> String {
        let report = self.reports("an error", |report| report.error.is_some()).await;
        assert_eq!(report.connected, None);
        report.error.unwrap()
    }

    /// Updates of a direction and kind, and their bytes.
    pub fn received(&self, kind: &str) -> (u64, u64) {
        let updates = self.figures.report().updates;
        let count = updates
            .iter()
            .find(|count| (count.direction, count.kind) == ("received", kind));
        count.map(|count| (count.updates, count.bytes)).unwrap()
    }
}
