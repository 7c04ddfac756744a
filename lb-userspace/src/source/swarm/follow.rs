//! Joins the parts: what the swarm wants, from this node's own engine or from a manager's agent, as this node carries it
//! out.

mod report;
mod sound;
#[cfg(test)]
mod tests;
mod turn;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::NAME;
use super::belief::{Belief, Swarm};
use super::fetch::Fetch;
use super::localize::{localize, own_name};
use super::poll::Polled;
use super::role::{Heard, Kind, Role, Task};
use crate::model::writer::Stopped;
use crate::model::{Desired, Writer};
use crate::source::engine::{Local, Membership};
use crate::source::kept::Kept;
use crate::source::{Note, SourceReport};
use sound::Sound;

/// How long a refusal is believed more than what the engine says of itself.
const DEMOTED: Duration = Duration::from_secs(10);
/// How long the others wait for the first picture where nothing is known of an earlier one.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a manager may be unable to see the swarm before its agent stops telling others what it saw, and listens to
/// another manager's itself.
const BLIND: Duration = Duration::from_secs(5);

/// The ways out of this node; tests have others.
pub trait Ways: Send + Sync + 'static {
    type Lists: Fetch + 'static;

    /// To the lists of this node's engine.
    fn lists(&self) -> Self::Lists;

    /// To the agents of the managers: goes on until it is aborted. What is the same is shared with `known`.
    fn stream(
        &self,
        member: &Membership,
        known: Option<Arc<Desired>>,
    ) -> (watch::Receiver<Heard>, JoinHandle<()>);

    /// To the agents of the others. `None`: this node is no manager, and has nothing to tell.
    fn publish(&self, desired: Option<&Arc<Desired>>);

    /// Why the others cannot be told.
    fn hindrance(&self) -> Option<Note>;

    /// The swarm's own id, from the certificate that it gave this node under this name.
    fn cluster(&self, node: &str) -> Option<Arc<str>>;

    /// There is no such certificate, whatever its name.
    fn is_uncertified(&self) -> bool;

    /// The engine answers.
    fn is_answered(&self) -> bool;
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
        belief: Belief::default(),
        refused: None,
        blind: None,
        instead: None,
        picture: None,
        sound: Sound::default(),
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
    belief: Belief,
    /// When this manager was told that it is none.
    refused: Option<Instant>,
    /// Since when this manager has not been able to see the swarm.
    blind: Option<Instant>,
    /// What another manager's agent tells it meanwhile.
    instead: Option<(watch::Receiver<Heard>, Task)>,
    /// What the swarm wants, whoever said so last; `None`: nobody yet in this life.
    picture: Option<Arc<Desired>>,
    /// What others said, without what is wrong with it.
    sound: Sound,
    /// When that was confirmed last.
    loaded: Option<SystemTime>,
    /// What the others have been told in this role.
    published: Option<Arc<Desired>>,
    /// When the writer must be told something for the first time; `None`: it has been.
    due: Option<Instant>,
    /// The picture as this node carries it out, and as the writer has it.
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
            let blind = self.blind.filter(|_| self.instead.is_none());
            tokio::select! {
                changed = self.setup.local.changed() => if changed.is_err() { return },
                () = self.role.changed() => {}
                () = heard(&mut self.instead) => {}
                () = until(believed) => self.refused = None,
                () = until(blind.map(|blind| blind + BLIND)) => {}
                () = until(self.belief.doubts_until()) => {}
                () = until(self.due) => {}
            }
        }
    }

    /// Nobody shall wait for this source: what an agent before this one kept, or soon nothing, until the truth is known.
    async fn begin(&mut self) -> Result<(), Stopped> {
        let Some(recalled) = self.kept.recall_of() else {
            self.due = Some(Instant::now() + PATIENCE);
            return Ok(());
        };
        self.spoken = self.sound.of(&Arc::new(recalled.desired));
        self.loaded = Some(recalled.when);
        self.belief.swarm = Swarm::read(&recalled.origin);
        self.tell_writer().await
    }

    async fn tell_writer(&self) -> Result<(), Stopped> {
        let spoken = Arc::clone(&self.spoken);
        self.setup.writer.source(NAME.into(), spoken).await
    }

    async fn speak(&mut self) -> Result<(), Stopped> {
        let mut notes = Vec::new();
        match &mut self.role {
            Role::Idle(Kind::Outside) => {
                self.picture = Some(Arc::default());
                self.loaded = Some(SystemTime::now());
            }
            Role::Idle(_) => {}
            Role::Manager(_, polled, _) => {
                let polled = polled.borrow_and_update().clone();
                notes.extend(polled.notes.iter().cloned());
                self.see(polled);
            }
            Role::Follower(_, heard, _) => {
                let heard = heard.borrow_and_update().clone();
                self.hear(heard, &mut notes);
            }
        }
        if let Some((heard, _)) = &mut self.instead {
            let heard = heard.borrow_and_update().clone();
            self.hear(heard, &mut notes);
        }
        let local = self.setup.local.borrow().clone();
        let stranger = self.carry_out(local.as_deref()).await?;
        self.tell(notes, stranger);
        Ok(())
    }

    fn hear(&mut self, heard: Heard, notes: &mut Vec<Note>) {
        if let Some(desired) = &heard.desired {
            self.picture = Some(self.sound.of(desired));
            self.loaded = heard.at;
            notes.extend(self.sound.notes());
        }
        notes.extend(heard.notes);
    }

    /// What this manager sees itself, as long as it does.
    fn see(&mut self, polled: Polled) {
        if polled.trouble.is_none() {
            (self.blind, self.instead) = (None, None);
        } else {
            let since = *self.blind.get_or_insert_with(Instant::now);
            if since.elapsed() >= BLIND {
                self.look_elsewhere();
                return;
            }
        }
        let Some(desired) = polled.desired else { return };
        let told = self.published.as_ref();
        if !told.is_some_and(|told| Arc::ptr_eq(told, &desired)) {
            self.setup.ways.publish(Some(&desired));
            self.published = Some(Arc::clone(&desired));
        }
        self.picture = Some(desired);
        self.loaded = polled.at;
    }

    /// Those who follow this manager would stay with what is old: other managers may see more.
    fn look_elsewhere(&mut self) {
        if self.published.take().is_some() {
            tracing::warn!("other agents are told nothing any more: this manager cannot see the swarm");
            self.setup.ways.publish(None);
        }
        if let (None, Some(member)) = (&self.instead, &self.belief.member) {
            let (heard, following) = self.setup.ways.stream(member, self.picture.clone());
            self.instead = Some((heard, Task(following)));
        }
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
        let member = self.belief.member.as_ref();
        let own = own_name(desired, member, &self.setup.node);
        let localized = localize(desired, local, &own, &self.spoken);
        let stranger = member.and_then(|member| report::stranger(desired, &own, &self.setup.node, member));
        let news = *self.spoken != localized;
        if first.is_some() || (news && self.due.is_none()) {
            self.due = None;
            self.spoken = Arc::new(localized);
            self.tell_writer().await?;
            if self.picture.is_some() {
                self.kept.save_of(self.belief.swarm.to_string(), &self.spoken);
            }
        }
        Ok(stranger)
    }

    fn tell(&self, mut notes: Vec<Note>, stranger: Option<String>) {
        let served = self.loaded.is_some();
        let required = self.setup.required;
        let instead = self
            .instead
            .as_ref()
            .and_then(|(heard, _)| heard.borrow().from.clone());
        let (place, problem) = report::of_role(&self.role, instead.as_deref(), served, required);
        let local = self.setup.local.borrow().clone();
        let member = local.as_ref().and_then(|local| local.swarm.as_ref());
        let unwell = member.and_then(|member| report::unwell(member, served));
        notes.extend(self.setup.ways.hindrance());
        let now = SourceReport {
            name: NAME,
            place,
            loaded: self.loaded,
            services: self.spoken.services.len(),
            backends: report::backends(&self.spoken),
            nodes: self.spoken.nodes.len(),
            error: stranger.or(unwell).or(problem),
            notes,
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

/// Where nobody tells anything there is no news.
async fn heard(instead: &mut Option<(watch::Receiver<Heard>, Task)>) {
    let news = match instead {
        Some((heard, _)) => heard.changed().await.is_ok(),
        None => false,
    };
    if !news {
        std::future::pending().await
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
