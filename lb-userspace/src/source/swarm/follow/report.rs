//! How the source is doing, for people.

use super::super::NAME;
use super::super::role::{Kind, Role};
use super::super::trouble::Trouble;
use crate::model::Desired;
use crate::source::SourceReport;
use crate::source::engine::Membership;

/// Before anything is known.
pub fn blank() -> SourceReport {
    SourceReport::new(NAME, place(&Kind::Unknown))
}

const fn place(kind: &Kind) -> &'static str {
    match kind {
        Kind::Unknown => "waiting for the container engine",
        Kind::Outside => "in no swarm",
        Kind::Unsettled => "in a swarm that the engine has not found its place in",
        Kind::Manager(_) => "manager of the swarm",
        Kind::Follower(_) => "worker of the swarm, no manager's agent reached",
    }
}

/// Where the wishes come from, and what hinders that. `instead`: the manager's agent that tells a manager which cannot see
/// for itself.
pub fn of_role(role: &Role, instead: Option<&str>, served: bool, required: bool) -> (String, Option<String>) {
    let kind = role.kind();
    match role {
        Role::Idle(Kind::Outside) if required => (
            place(kind).to_owned(),
            Some(
                "this node's engine is in no swarm\n  traffic: the other sources are served\n  fix: docker swarm init or \
                 join, or sources.swarm.enabled = \"auto\""
                    .to_owned(),
            ),
        ),
        Role::Idle(_) => (place(kind).to_owned(), None),
        Role::Manager(_, polled, _) => {
            let polled = polled.borrow();
            let place = match &polled.leader {
                Some(leader) => format!("{}, leader {leader}", place(kind)),
                None => place(kind).to_owned(),
            };
            let place = match instead {
                Some(from) => format!("{place}; stream from {from} meanwhile"),
                None => place,
            };
            let told = polled.trouble.as_ref();
            (place, told.map(|trouble| trouble.told(served)))
        }
        Role::Follower(_, heard, _) => {
            let heard = heard.borrow();
            let place = match &heard.from {
                Some(from) => format!("stream from {from}"),
                None => place(kind).to_owned(),
            };
            (place, heard.problem.clone())
        }
    }
}

/// Why this node gets nothing: the swarm calls it otherwise than it is configured, or does not know it.
pub fn stranger(desired: &Desired, own: &str, node: &str, member: &Membership) -> Option<String> {
    let id = &member.node;
    if own != node {
        return Some(format!(
            "the swarm calls this node {own}, and its agent is called {node}\n  traffic: other nodes serve the swarm's \
             services; tasks on this one get nothing from Portico\n  fix: set node = \"{own}\" in this node's \
             portico.toml and restart the agent, or docker node update --label-add portico.node={node} {id}"
        ));
    }
    // It may have joined just now.
    if desired.nodes.is_empty() || desired.nodes.contains_key(own) {
        return None;
    }
    Some(format!(
        "the swarm has no address of this node ({id}) that others could reach\n  traffic: other nodes serve the swarm's \
         services; tasks on this one get nothing from Portico\n  fix: see docker node inspect {id}; let it join with \
         --advertise-addr and its IPv4 address"
    ))
}

/// What the engine says is wrong between it and its swarm.
pub fn unwell(member: &Membership, served: bool) -> Option<String> {
    let error = member.error.as_ref()?;
    // What a refused list would say, it says in the same words.
    let trouble = Trouble::of("/info", 200, error);
    if matches!(trouble, Trouble::NoLeader | Trouble::Locked) {
        return Some(trouble.told(served));
    }
    let traffic = if served {
        "flows on as the swarm was seen last"
    } else {
        "the other sources are served; nothing was seen of this swarm yet"
    };
    Some(format!(
        "the engine is not well in its swarm: {error}\n  traffic: {traffic}\n  fix: see docker info, and what dockerd logs (journalctl -u docker)"
    ))
}

pub fn backends(desired: &Desired) -> usize {
    let services = desired.services.values();
    services.map(|service| service.backends.len()).sum()
}
