//! Joins the parts: what the swarm wants, from this node's own engine or from a manager's agent, as this node carries it
//! out.

mod report;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::NAME;
use super::fetch::Fetch;
use super::localize::{localize, own_name};
use super::poll::{Polled, poll};
use super::role::{Kind, Role, Task, Told};
use super::trouble::Trouble;
use crate::model::writer::Stopped;
use crate::model::{Desired, Writer};
use crate::source::engine::{Local, Membership};
use crate::source::kept::Kept;
use crate::source::{Note, SourceReport};

/// How long a refusal is believed more than what the engine says of itself.
const DEMOTED: Duration = Duration::from_secs(10);
/// How long the others wait for the first picture where nothing is known of an earlier one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The ways out of this node; tests have others.
pub trait Ways: Send + Sync + 'static {
    type Lists: Fetch + 'static;

    /// To the lists of this node's engine.
    fn lists(&self) -> Self::Lists;

    /// To the agents of the managers: goes on until it is aborted.
    fn stream(&self, member: &Membership) -> (watch::Receiver<Told>, JoinHandle<()>);

    /// To the agents of the others. `None`: this node is no manager, and has nothing to tell.
    fn publish(&self, desired: Option<&Arc<Desired>>);

    /// Why the others cannot be told.
    fn hindrance(&self) -> Option<Note>;
}

/// What the source is started with.
pub struct Setup<W> {
    /// This node, as it is configured.
    pub node: Arc<str>,
    /// It is a mistake where the engine is in no swarm.
    pub required: bool,
    pub local: watch::Receiver<Option<Arc<Local>>>,
    /// Changes with every event that concerns the swarm.
    pub moved: watch::Receiver<u64>,
    pub writer: Writer,
    pub ways: W,
}

/// Starts the source; the report is always the latest. A copy of what it wanted last is kept in `runtime`.
pub fn start<W: Ways>(setup: Setup<W>, runtime: &Path) -> (watch::Receiver<SourceReport>, JoinHandle<()>) {
    let (report, reports) = watch::channel(report::blank());
    let kept = Kept::new(runtime, NAME);
    let follower = Follower {
        setup,
        kept,
        report,
        role: Role::Idle(Kind::Unknown),
        refused: None,
        picture: None,
        loaded: None,
        published: None,
        due: None,
        spoken: Arc::default(),
    };
    (reports, tokio::spawn(follower.run()))
}

struct Follower<W> {
    setup: Setup<W>,
    kept: Kept,
    report: watch::Sender<SourceReport>,
    role: Role,
    /// When this manager was told that it is none.
    refused: Option<Instant>,
    /// What the swarm wants, whoever said so last; `None`: nobody yet in this life.
    picture: Option<Arc<Desired>>,
    /// When that was confirmed last.
    loaded: Option<SystemTime>,
    /// What the others have been told in this role.
    published: Option<Arc<Desired>>,
    /// When the writer must be told something for the first time; `None`: it has been.
    due: Option<Instant>,
    /// The picture as this node carries it out.
    spoken: Arc<Desired>,
}

impl<W: Ways> Follower<W> {
    async fn run(mut self) {
        if self.begin().await.is_err() {
            return;
        }
        loop {
            self.assume();
            if self.speak().await.is_err() {
                return;
            }
            let believed = self.refused.map(|refused| refused + DEMOTED);
            tokio::select! {
                changed = self.setup.local.changed() => if changed.is_err() { return },
                () = self.role.changed() => {}
                () = until(believed) => self.refused = None,
                () = until(self.due) => {}
            }
        }
    }

    /// Nobody shall wait for this source: what an agent before this one kept, or soon nothing, until the truth is known.
    async fn begin(&mut self) -> Result<(), Stopped> {
        let Some((desired, kept)) = self.kept.recall() else {
            self.due = Some(Instant::now() + PATIENCE);
            return Ok(());
        };
        self.spoken = Arc::new(desired);
        self.loaded = Some(kept);
        self.tell_writer().await
    }

    async fn tell_writer(&self) -> Result<(), Stopped> {
        let spoken = Arc::clone(&self.spoken);
        self.setup.writer.source(NAME.into(), spoken).await
    }

    /// Takes the role that the engine says this node has.
    fn assume(&mut self) {
        let local = self.setup.local.borrow_and_update().clone();
        if self.refused.is_none() && self.is_refused() {
            self.refused = Some(Instant::now());
        }
        let kind = Kind::of(local.as_deref(), self.refused.is_some());
        if kind == *self.role.kind() {
            return;
        }
        tracing::info!(?kind, "this node's place in the swarm");
        if !self.role.kind().same_swarm(&kind) {
            self.picture = None;
            self.spoken = Arc::default();
        }
        let member = local.as_ref().and_then(|local| local.swarm.as_ref());
        self.published = None;
        // What came before ends first: two would ask for one thing.
        self.role = Role::Idle(Kind::Unknown);
        self.role = match (&kind, member) {
            (Kind::Manager(_), _) => {
                let (out, polled) = watch::channel(Polled::default());
                let start = self.picture.clone().unwrap_or_default();
                let lists = self.setup.ways.lists();
                let polling = tokio::spawn(poll(lists, self.setup.moved.clone(), out, start));
                Role::Manager(kind, polled, Task(polling))
            }
            (Kind::Follower(_), Some(member)) => {
                self.setup.ways.publish(None);
                let (told, following) = self.setup.ways.stream(member);
                Role::Follower(kind, told, Task(following))
            }
            _ => {
                self.setup.ways.publish(None);
                Role::Idle(kind)
            }
        };
    }

    fn is_refused(&self) -> bool {
        match &self.role {
            Role::Manager(_, polled, _) => polled.borrow().trouble == Some(Trouble::NotManager),
            _ => false,
        }
    }

    async fn speak(&mut self) -> Result<(), Stopped> {
        let mut notes: Arc<[Note]> = Arc::default();
        match &mut self.role {
            Role::Idle(Kind::Outside) => {
                self.picture = Some(Arc::default());
                self.loaded = Some(SystemTime::now());
            }
            Role::Idle(_) => {}
            Role::Manager(_, polled, _) => {
                let polled = polled.borrow_and_update();
                notes = Arc::clone(&polled.notes);
                if let Some(desired) = &polled.desired {
                    let told = self.published.as_ref();
                    if !told.is_some_and(|told| Arc::ptr_eq(told, desired)) {
                        self.setup.ways.publish(Some(desired));
                        self.published = Some(Arc::clone(desired));
                    }
                    self.picture = Some(Arc::clone(desired));
                    self.loaded = polled.at;
                }
            }
            Role::Follower(_, told, _) => {
                let told = told.borrow_and_update();
                if let Some(desired) = &told.desired {
                    self.picture = Some(Arc::clone(desired));
                    self.loaded = told.at;
                }
            }
        }
        let local = self.setup.local.borrow().clone();
        let stranger = self.carry_out(local.as_deref()).await?;
        self.tell(&notes, stranger);
        Ok(())
    }

    /// Tells the writer what is new. Returns what is wrong with this node's name.
    async fn carry_out(&mut self, local: Option<&Local>) -> Result<Option<String>, Stopped> {
        let first = self
            .due
            .filter(|due| self.picture.is_some() || Instant::now() >= *due);
        let Some(local) = local else {
            if first.is_some() {
                self.due = None;
                self.tell_writer().await?;
            }
            return Ok(None);
        };
        // Until the swarm speaks, what was kept: of its tasks some may have ended meanwhile.
        let desired = self.picture.as_ref().unwrap_or(&self.spoken);
        let member = local.swarm.as_ref();
        let own = own_name(desired, member, &self.setup.node);
        let localized = localize(desired, local, &own, &self.spoken);
        let stranger = member.and_then(|member| report::stranger(desired, &own, &self.setup.node, member));
        let news = *self.spoken != localized;
        if first.is_some() || (news && self.due.is_none()) {
            self.due = None;
            self.spoken = Arc::new(localized);
            self.tell_writer().await?;
            if self.picture.is_some() {
                self.kept.save(&self.spoken);
            }
        }
        Ok(stranger)
    }

    fn tell(&self, notes: &[Note], stranger: Option<String>) {
        let served = self.loaded.is_some();
        let required = self.setup.required;
        let (place, problem) = report::of_role(&self.role, served, required);
        let now = SourceReport {
            name: NAME,
            place,
            loaded: self.loaded,
            services: self.spoken.services.len(),
            backends: report::backends(&self.spoken),
            nodes: self.spoken.nodes.len(),
            error: stranger.or(problem),
            notes: notes.iter().cloned().chain(self.setup.ways.hindrance()).collect(),
        };
        self.report.send_if_modified(|report| {
            let news = *report != now;
            let told = now.error.as_ref().filter(|_| now.error != report.error);
            if let Some(error) = told {
                tracing::warn!("swarm: {error}");
            }
            *report = now;
            news
        });
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
