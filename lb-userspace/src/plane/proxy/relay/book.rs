//! What the relay has to look up in a snapshot: this node's members, and who is at an address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use lb_common::placement::State;
use rustls::pki_types::CertificateDer;

use super::identity;
use super::refusal::Refusal;
use crate::model::{Pool, Snapshot, View};
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::found::Found;

/// The newest book. A snapshot is looked through when somebody asks, not when it is made: most nodes are asked for nothing.
pub struct Library {
    node: Arc<str>,
    view: View,
    newest: ArcSwap<Book>,
}

pub struct Book {
    snapshot: Arc<Snapshot>,
    members: HashMap<u64, Found>,
    nodes: HashMap<Ipv4Addr, Vec<Arc<str>>>,
    /// This node's underlay address.
    pub home: Option<Ipv4Addr>,
}

impl Library {
    pub fn new(node: Arc<str>, view: View) -> Self {
        let book = Book::of(&node, view.current());
        Self {
            node,
            view,
            newest: ArcSwap::from_pointee(book),
        }
    }

    pub fn book(&self) -> Arc<Book> {
        let (snapshot, known) = (self.view.current(), self.newest.load());
        if Arc::ptr_eq(&known.snapshot, &snapshot) {
            return Arc::clone(&known);
        }
        let book = Arc::new(Book::of(&self.node, snapshot));
        self.newest.store(Arc::clone(&book));
        book
    }
}

impl Book {
    fn of(node: &str, snapshot: Arc<Snapshot>) -> Self {
        let mut nodes = HashMap::<_, Vec<_>>::new();
        for (name, at) in &snapshot.nodes {
            nodes.entry(at.address).or_default().push(Arc::clone(name));
        }
        Self {
            members: snapshot
                .pools
                .iter()
                .flat_map(|pool| members(pool, node))
                .collect(),
            nodes,
            home: snapshot.nodes.get(node).map(|node| node.address),
            snapshot,
        }
    }

    /// Of its snapshot.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// Where connections to a member lead, if they are to lead there.
    pub fn find(&self, member: u64) -> Result<SocketAddr, Answer> {
        match self.members.get(&member) {
            None => Err(Answer::Gone),
            Some(found) if found.avoided => Err(Answer::Draining),
            Some(found) => Ok(found.address),
        }
    }

    /// A member of this node, for datagrams.
    pub fn member(&self, tag: u64) -> Option<Found> {
        self.members.get(&tag).copied()
    }

    /// Whether that is a node's name and address.
    pub fn has_node(&self, name: &str, address: IpAddr) -> bool {
        self.names_at(address).iter().any(|there| **there == *name)
    }

    /// Whether another node is there.
    pub fn has_node_at(&self, address: IpAddr) -> bool {
        !self.names_at(address).is_empty()
    }

    /// The node that a certificate is of, of which the chain is good, where it comes from that node's address.
    pub fn node_of(&self, certificate: &CertificateDer<'_>, from: IpAddr) -> Result<Arc<str>, Refusal> {
        let here = self.names_at(from);
        if let Some(name) = here.iter().find(|name| identity::is_of(certificate, name)) {
            return Ok(Arc::clone(name));
        }
        let mut all = self.snapshot.nodes.keys();
        Err(match all.find(|name| identity::is_of(certificate, name)) {
            Some(node) => Refusal::Misplaced {
                node: node.to_string(),
            },
            None => Refusal::Unknown,
        })
    }

    fn names_at(&self, address: IpAddr) -> &[Arc<str>] {
        match address.to_canonical() {
            IpAddr::V4(address) => self.nodes.get(&address).map_or(&[], Vec::as_slice),
            IpAddr::V6(_) => &[],
        }
    }
}

fn members(pool: &Pool, node: &str) -> impl Iterator<Item = (u64, Found)> {
    let mut states = pool.members.iter().map(|member| member.candidate.state);
    let others = states.any(|state| state == State::Active);
    let own = pool.members.iter().filter(move |member| *member.node == *node);
    own.map(move |member| {
        let found = Found {
            address: SocketAddr::new(member.address, pool.target_port),
            avoided: others && member.candidate.state == State::Draining,
        };
        (member.candidate.tag, found)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::cluster::{Task, member, snapshot};
    use super::*;

    const TASK: Task = Task {
        tag: 7,
        node: "node2",
        port: 80,
        state: State::Active,
    };

    fn book(tasks: &[Task]) -> Book {
        Book::of("node2", Arc::new(snapshot(vec![member(tasks)])))
    }

    #[test]
    fn only_members_of_this_node_are_found() {
        let elsewhere = Task {
            tag: 8,
            node: "node1",
            ..TASK
        };
        let book = book(&[TASK, elsewhere]);
        assert_eq!(book.find(7), Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(book.find(8), Err(Answer::Gone));
        assert_eq!(book.find(9), Err(Answer::Gone));
    }

    #[test]
    fn a_draining_member_is_avoided_as_long_as_there_is_another() {
        let draining = Task {
            state: State::Draining,
            ..TASK
        };
        let other = Task {
            tag: 8,
            node: "node1",
            ..TASK
        };
        assert!(book(&[draining]).find(7).is_ok());
        assert_eq!(book(&[draining, other]).find(7), Err(Answer::Draining));
    }
}
