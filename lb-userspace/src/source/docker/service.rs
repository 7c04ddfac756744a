//! A service made of its containers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::backend::{Here, backend};
use super::member::{Member, Origin};
use crate::model::validate::is_host_name;
use crate::model::{DesiredService, Naming, Protocol};
use crate::source::Note;
use crate::source::engine::local::GATEWAY;
use crate::source::engine::{Container, Run};
use crate::source::labels::{Fault, Front, PREFIX};
use crate::source::ports;

/// The network of containers that have the node's own.
const HOST: &str = "host";

/// The containers that a service of one name is said of, by id.
pub type Members = BTreeMap<Arc<str>, Box<Member>>;

/// What its containers want.
pub struct Made {
    pub service: DesiredService,
    pub notes: Vec<Note>,
    /// When the oldest of them was created.
    pub age: i64,
    /// Containers that would be of this name, too, and have nothing to do with it.
    pub strangers: BTreeSet<Arc<str>>,
}

/// `None` where nothing is there that could be one: no container that keeps it, or none on any network.
pub fn service(name: &Arc<str>, members: &Members, here: &Here) -> Option<Made> {
    // The name is the oldest one's.
    let keeping = members.values().filter(|member| member.keeps());
    let age = keeping.clone().map(|member| member.age()).min()?.0;
    let founders = keeping.filter(|member| member.origin() != Origin::Label);
    let founder = founders
        .min_by_key(|member| member.age())
        .map(|member| member.origin());
    let (members, strangers): (Vec<&Member>, Vec<&Member>) =
        members.values().map(|member| &**member).partition(|member| {
            let origin = member.origin();
            origin == Origin::Label || founder.is_none_or(|founder| founder == origin)
        });
    // Where replicas disagree, the latest word is meant; what failed to start or has ended says nothing to those that run.
    let running = members.iter().filter(|member| member.runs());
    let youngest = running
        .max_by_key(|member| member.age())
        .or_else(|| members.iter().max_by_key(|member| member.age()));
    let youngest = *youngest?;
    let networks = networks(&members);
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
        mut frontends,
    } = front(youngest);
    // As with the engine's own: who is stopped has no ports on the node, and others may have them.
    if members.iter().all(|member| member.container.run == Run::Ended) {
        frontends.clear();
    }
    let health = settings.health(&exposed).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let stack = youngest
        .compose
        .as_ref()
        .map(|(project, _)| project)
        .filter(|stack| is_host_name(stack));
    let backends = members.iter().filter_map(|member| backend(member, here));
    let service = DesiredService {
        naming: Naming {
            stack: stack.cloned(),
            networks,
            aliases: aliases(name, &members, youngest),
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
        proxy: settings.proxy.clone(),
        backends: backends.collect(),
    };
    let notes = faults
        .iter()
        .map(|fault| fault.note(&object, Some(Arc::clone(name))));
    let founder = founder.unwrap_or(Origin::Label);
    Some(Made {
        service,
        notes: notes.chain(unrelated(name, founder, &strangers)).collect(),
        age,
        strangers: strangers
            .iter()
            .map(|stranger| Arc::clone(&stranger.container.id))
            .collect(),
    })
}

/// One note for all containers of one kind.
fn unrelated(name: &Arc<str>, founder: Origin<'_>, strangers: &[&Member]) -> Vec<Note> {
    let mut told = Vec::new();
    let mut notes = Vec::new();
    for stranger in strangers.iter().filter(|stranger| stranger.keeps()) {
        if told.contains(&stranger.origin()) {
            continue;
        }
        told.push(stranger.origin());
        notes.push(Note {
            service: Some(Arc::clone(name)),
            what: format!(
                "container {}: it would be service {name}, too, which is {founder} already",
                stranger.container.name
            ),
            consequence: "it is not served; the older has the name".into(),
            fix: format!("rename one of them, or say by label {PREFIX}service of which service it is"),
        });
    }
    notes
}

/// All that its containers are on, sorted.
fn networks(members: &[&Member]) -> Vec<Arc<str>> {
    let mut networks: Vec<Arc<str>> = Vec::new();
    for member in members {
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
fn aliases(service: &Arc<str>, members: &[&Member], youngest: &Member) -> Vec<Arc<str>> {
    let of_members = members.iter().flat_map(|member| member.aliases());
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
