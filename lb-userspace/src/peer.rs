//! Heartbeats between agents: who is alive, what is unhealthy, what operators have drained.
//!
//! One datagram to every node each 100 ms, whatever happens: the load is the same on a bad day. Nothing is
//! acknowledged, everything is repeated. They are heard on one port, and leave by a socket for each node.

mod agenda;
pub mod drains;
mod lines;
pub mod planes;
mod roster;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::health::HealthReport;
use crate::model::writer::Stopped;
use crate::model::{Drains, Snapshot, View, Writer};
use agenda::Agenda;
use lines::Lines;
use planes::Programs;
use roster::{Change, Heard, Roster};

/// Another node, as this one's agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Its last heartbeat; none if it was never heard.
    pub heard: Option<Instant>,
    pub presence: Presence,
}

/// How a node shows that it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It never did: it may not be there yet.
    #[default]
    Unheard,
    /// Its agent speaks.
    Heard,
    /// Its agent does not, and its kernel says so: what it had programmed goes on, new connections included.
    Away,
    /// Not any more: new connections go elsewhere.
    Suspected,
}

/// Reports by node.
pub type PeerReports = Arc<BTreeMap<Arc<str>, PeerReport>>;

/// What the heartbeats of an agent need.
pub struct Setup {
    /// This node.
    pub node: Arc<str>,
    pub port: u16,
    /// The cluster's key for heartbeats.
    pub mac: [u8; 32],
    pub writer: Writer,
    pub programs: Programs,
    /// Other nodes that had none when they were heard last.
    pub by_proxy: BTreeSet<Arc<str>>,
    /// What this node's checks find.
    pub health: watch::Receiver<Arc<HealthReport>>,
}

/// Half a heartbeat: how often silence is looked for.
const TICK: Duration = Duration::from_millis(50);
/// A complaint about strange datagrams is made at most this often.
const COMPLAINT: Duration = Duration::from_secs(60);

/// Starts sending and hearing heartbeats. Fails where the port cannot be had; ends with the writer.
pub async fn start(setup: Setup) -> io::Result<(watch::Receiver<PeerReports>, JoinHandle<()>)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, setup.port)).await?;
    Ok(run_on(socket, setup))
}

fn run_on(socket: UdpSocket, setup: Setup) -> (watch::Receiver<PeerReports>, JoinHandle<()>) {
    let (report, reports) = watch::channel(Arc::default());
    // Different in every life of the agent: see `roster`.
    let boot = RandomState::new().hash_one(0) | 1;
    let mouth = Mouth {
        socket,
        view: setup.writer.view(),
        drains: setup.writer.drains(),
        agenda: Agenda::new(Arc::clone(&setup.node), boot),
        roster: Roster::new(boot, setup.by_proxy.clone(), Instant::now()),
        lines: Lines::default(),
        snapshot: Arc::default(),
        suspected: BTreeSet::new(),
        by_proxy: None,
        complained: None,
        report,
        setup,
    };
    (reports, tokio::spawn(mouth.run()))
}

struct Mouth {
    setup: Setup,
    socket: UdpSocket,
    view: View,
    drains: watch::Receiver<Arc<Drains>>,
    agenda: Agenda,
    roster: Roster,
    lines: Lines,
    snapshot: Arc<Snapshot>,
    /// What the writer was told last.
    suspected: BTreeSet<Arc<str>>,
    by_proxy: Option<BTreeSet<Arc<str>>>,
    complained: Option<Instant>,
    report: watch::Sender<PeerReports>,
}

impl Mouth {
    async fn run(mut self) {
        self.agenda.set_health(&self.setup.health.borrow_and_update());
        self.agenda.set_drains(&self.drains.borrow_and_update());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut even = false;
        let mut buffer = [0; wire::MAX_DATAGRAM + 1];
        loop {
            let told = tokio::select! {
                _ = ticks.tick() => {
                    even = !even;
                    if even {
                        self.speak();
                    }
                    self.judge(&mut buffer).await
                }
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.hear(&buffer[..length], from).await,
                    // Nothing is sent by this socket, so this is about no node.
                    Err(_) => Ok(()),
                },
                snapshot = self.view.changed() => snapshot.map(|snapshot| {
                    let others = snapshot.nodes.keys().filter(|node| **node != self.setup.node);
                    self.roster.follow(others);
                    self.lines.keep(|node| self.roster.echo(node).is_some());
                    self.snapshot = snapshot;
                }),
                // News goes out at once, besides being repeated.
                Ok(()) = self.setup.health.changed() => {
                    if self.agenda.set_health(&self.setup.health.borrow_and_update()) {
                        self.speak();
                    }
                    Ok(())
                }
                Ok(()) = self.drains.changed() => {
                    self.agenda.set_drains(&self.drains.borrow_and_update());
                    self.speak();
                    Ok(())
                }
            };
            if let Err(Stopped) = told {
                return;
            }
        }
    }

    /// One heartbeat to every node.
    fn speak(&mut self) {
        let (mut heartbeat, now) = (self.agenda.next(), Instant::now());
        heartbeat.by_proxy = !self.setup.programs.are_there();
        for (name, node) in &self.snapshot.nodes {
            let Some(echo) = self.roster.echo(name) else {
                continue;
            };
            heartbeat.echo = echo;
            let datagram = wire::seal(&self.setup.mac, &heartbeat);
            let to = SocketAddr::from((node.address, self.setup.port));
            // What cannot be sent now is repeated, and missed there if it never can.
            if let Ok(Some(refused)) = self.lines.send(name, to, &datagram, now) {
                self.roster.refuse(name, refused);
            }
        }
    }

    /// Looks who lives, once everything that has arrived is heard.
    async fn judge(&mut self, buffer: &mut [u8]) -> Result<(), Stopped> {
        while let Ok((length, from)) = self.socket.try_recv_from(buffer) {
            self.hear(&buffer[..length], from).await?;
        }
        let changes = self.roster.judge(Instant::now());
        changes.iter().for_each(tell);
        let suspected = self.roster.suspected();
        if suspected != self.suspected {
            self.setup.writer.suspicion(suspected.clone()).await?;
            self.suspected = suspected;
        }
        let by_proxy = self.roster.by_proxy();
        if self.snapshot.generation > 0 && self.by_proxy.as_ref() != Some(&by_proxy) {
            self.setup.writer.by_proxy(by_proxy.clone()).await?;
            self.by_proxy = Some(by_proxy);
        }
        self.report.send_replace(Arc::new(self.roster.reports()));
        Ok(())
    }

    async fn hear(&mut self, datagram: &[u8], from: SocketAddr) -> Result<(), Stopped> {
        let now = Instant::now();
        let heartbeat = match wire::open(&self.setup.mac, datagram) {
            Ok(heartbeat) => heartbeat,
            Err(strange) => {
                if self.complained.is_none_or(|then| now - then > COMPLAINT) {
                    self.complained = Some(now);
                    tracing::warn!(%from, "a heartbeat that is not this cluster's: {strange}; is cluster.secret the same on every node?");
                }
                return Ok(());
            }
        };
        match self.roster.hear(&heartbeat, now) {
            Heard::Accepted { health_changed } => {
                if health_changed {
                    let node: Arc<str> = heartbeat.node.as_str().into();
                    let unhealthy = self.roster.unhealthy(&node);
                    self.setup.writer.health(node, unhealthy).await?;
                }
                for mark in heartbeat.drains {
                    let news = self.drains.borrow().is_news(&mark);
                    if news {
                        self.setup.writer.drain_mark(mark).await?;
                    }
                }
            }
            Heard::Stranger | Heard::Old | Heard::Unproven => {}
        }
        Ok(())
    }
}

/// For the log.
fn tell(change: &Change) {
    let (node, silence) = (&change.node, change.silence.as_millis());
    match change.now {
        Presence::Suspected => {
            tracing::warn!(%node, "no sign of life for {silence} ms: new connections go elsewhere");
        }
        Presence::Away => tracing::info!(%node, "its agent is away; the node goes on without it"),
        Presence::Heard if change.before != Presence::Unheard => tracing::info!(%node, "heard again"),
        Presence::Heard | Presence::Unheard => {}
    }
}
