//! A service made of its containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::{Here, backend};
use super::member::Member;
use crate::model::validate::is_host_name;
use crate::model::{DesiredService, Naming, Protocol};
use crate::source::Note;
use crate::source::engine::Container;
use crate::source::engine::local::GATEWAY;
use crate::source::labels::{Fault, Front, PREFIX};
use crate::source::ports;

/// The network of containers that have the node's own.
const HOST: &str = "host";

/// The containers of one service, by id, each with the name it has as a task.
pub type Members = BTreeMap<Arc<str>, (Arc<str>, Box<Member>)>;

/// `None` where nothing is there that could be one: no container that keeps it, or none on any network.
pub fn service(name: &Arc<str>, members: &Members, here: &Here) -> Option<(DesiredService, Vec<Note>)> {
    if !members.values().any(|(_, member)| member.keeps()) {
        return None;
    }
    // Where replicas disagree, the latest word is meant.
    let age = |member: &&Member| (member.container.created, Arc::clone(&member.container.id));
    let youngest = members.values().map(|(_, member)| &**member).max_by_key(age)?;
    let networks = networks(members);
    if networks.is_empty() {
        return None;
    }
    let object = format!("container {}", youngest.container.name);
    let mut faults: Vec<Fault> = youngest.faults.clone();
    let settings = &youngest.settings;
    faults.extend(lost_network(youngest));
    let Front {
        vips,
        exposed,
        frontends,
    } = front(youngest);
    let health = settings.health(&exposed).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let stack = youngest
        .compose
        .as_ref()
        .map(|(project, _)| project)
        .filter(|stack| is_host_name(stack));
    let backends = members
        .values()
        .filter_map(|(task, member)| backend(member, task, here));
    let service = DesiredService {
        naming: Naming {
            stack: stack.cloned(),
            networks,
            aliases: aliases(name, members, youngest),
            endpoint: settings.endpoint.unwrap_or_default(),
            ttl: settings.ttl,
        },
        vips,
        assigned: Vec::new(),
        exposed,
        frontends,
        slots: settings.slots,
        affinity: settings.affinity,
        health,
        backends: backends.collect(),
    };
    let notes = faults
        .iter()
        .map(|fault| fault.note(&object, Some(Arc::clone(name))))
        .collect();
    Some((service, notes))
}

/// All that its containers are on, sorted.
fn networks(members: &Members) -> Vec<Arc<str>> {
    let mut networks: Vec<Arc<str>> = Vec::new();
    for (_, member) in members.values() {
        let Container {
            networks: joined,
            host,
            ..
        } = &*member.container;
        if *host {
            networks.push(HOST.into());
        } else {
            let seen = joined
                .keys()
                .filter(|name| ***name != *GATEWAY && &***name != "none");
            networks.extend(seen.filter(|name| is_host_name(name)).cloned());
        }
    }
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Each once, but the names of its containers, which lead to these.
fn aliases(service: &Arc<str>, members: &Members, youngest: &Member) -> Vec<Arc<str>> {
    let of_members = members.values().flat_map(|(_, member)| member.aliases());
    let mut aliases: Vec<Arc<str>> = Vec::new();
    let mut take = |alias: &Arc<str>| {
        let known = alias.eq_ignore_ascii_case(service)
            || aliases.iter().any(|known| known.eq_ignore_ascii_case(alias));
        if !known {
            aliases.push(Arc::clone(alias));
        }
    };
    // What Compose calls it comes first, the rest in an order of its own.
    youngest
        .compose
        .iter()
        .map(|(_, short)| short)
        .filter(|short| is_host_name(short))
        .for_each(&mut take);
    let mut rest: Vec<&Arc<str>> = of_members.chain(&youngest.settings.aliases).collect();
    rest.sort_unstable();
    rest.into_iter().for_each(take);
    aliases
}

/// A port that is fixed, and on every address, can be taken over from the engine: it could give it to one replica only. One that
/// it chose itself, or that is on one address, stays its own.
fn front(member: &Member) -> Front {
    let container = &*member.container;
    let (mut published, mut targets): (Vec<ports::Published>, Vec<(u16, Protocol)>) = Default::default();
    for port in &container.published {
        match (port.address, port.port) {
            (None, Some(at)) => published.push(ports::Published {
                port: at,
                target_port: port.target_port,
                protocol: port.protocol,
            }),
            _ => targets.push((port.target_port, port.protocol)),
        }
    }
    targets.extend(&container.exposed);
    // With the node's network its ports are the node's own: only a label says that they are to be balanced.
    member.settings.front(&published, &targets)
}

/// A network that a label names and the container is not on.
fn lost_network(member: &Member) -> Option<Fault> {
    let network = member.settings.network.as_deref()?;
    let container = &member.container;
    if container.networks.contains_key(network) || container.host {
        return None;
    }
    let on: Vec<&str> = container
        .networks
        .keys()
        .map(|name| &**name)
        .filter(|name| *name != GATEWAY)
        .collect();
    let fix = match on.is_empty() {
        true => "connect it to the network, or remove the label".to_owned(),
        false => format!("write one of: {}", on.join(", ")),
    };
    Some(Fault::new(
        &format!("{PREFIX}network"),
        network,
        "the container is on no such network",
        fix,
    ))
}
