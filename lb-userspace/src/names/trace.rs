//! Why a name was answered as it was: noted while a question from within is answered, and only then.

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;

use dns::Subject;

use super::index::{Claim, Index, Owner};
use super::lookup::{Finding, asked_from};
use super::part::{Kind, Part};
use super::visibility::Sight;
use crate::model::{Endpoint, Standing};

tokio::task_local! {
    static NOTES: RefCell<Vec<Note>>;
}

/// One look into the directory that came to something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Services, by name; several where they share an alias.
    pub services: Vec<String>,
    pub words: String,
    /// The client may not see it.
    pub hidden: bool,
}

/// Runs a question; returns what was noted of it beside its answer.
pub async fn noted<T>(question: impl Future<Output = T>) -> (T, Vec<Note>) {
    NOTES
        .scope(RefCell::default(), async {
            let answer = question.await;
            (answer, NOTES.with(RefCell::take))
        })
        .await
}

/// Notes what a client's question for a name found, where somebody listens.
pub fn note(client: IpAddr, sight: Sight<'_>, subject: Subject<'_>, finding: &Finding<'_>) {
    // Nearly always nobody does.
    let _ = NOTES.try_with(|notes| {
        let (claims, hidden) = match finding {
            Finding::Found(claims) => (claims, false),
            Finding::Hidden(claims) => (claims, true),
            Finding::Unknown => return,
        };
        let told = claims.iter().map(|claim| match hidden {
            true => what(claim, subject),
            false => what(claim, subject) + &from(claim, sight, subject),
        });
        let told: Vec<_> = told.collect();
        let mut words = told.join("; ");
        if hidden {
            words += "; not told to this client";
        }
        notes.borrow_mut().push(Note {
            services: claims.iter().map(|claim| claim.part.name.to_string()).collect(),
            words: format!("{words}; {}", whom(client, sight)),
            hidden,
        });
    });
}

/// The same for a question for an address.
pub fn note_address(client: IpAddr, sight: Sight<'_>, address: IpAddr, index: &Index) {
    let _ = NOTES.try_with(|notes| {
        let whom = whom(client, sight);
        let note = match index.owner(sight, address) {
            None if index.addresses.get(&address).is_empty() => return,
            None => Note {
                services: Vec::new(),
                words: format!("nobody that this client sees can be meant; {whom}"),
                hidden: true,
            },
            Some(Owner { part, task, .. }) => {
                let service = &part.now().service;
                let of = format!("{} (on {})", service.name, service.naming.networks.join(", "));
                let whose = match task {
                    None => format!("a VIP of the service {of}"),
                    Some(place) => {
                        let backend = &service.backends[*place];
                        format!(
                            "the task {} on {}, of the service {of}",
                            backend.task, backend.node
                        )
                    }
                };
                Note {
                    services: vec![service.name.to_string()],
                    words: format!("{whose}; {whom}"),
                    hidden: false,
                }
            }
        };
        notes.borrow_mut().push(note);
    });
}

fn what(claim: &Claim, subject: Subject<'_>) -> String {
    let service = &claim.part.now().service;
    let networks = service.naming.networks.join(", ");
    let of = |what: &str| format!("{what} {} (on {networks})", service.name);
    match (claim.kind, subject) {
        (Kind::Task(place), _) => {
            let backend = &service.backends[place];
            let state = match backend.standing {
                Standing::Active | Standing::Warming => "",
                Standing::Draining => ", which is draining",
                Standing::Unhealthy => ", which is unhealthy",
            };
            let on = &backend.node;
            format!(
                "the task {} on {on}{state}, {}",
                backend.task,
                of("of the service")
            )
        }
        (_, Subject::Tasks { .. }) => format!("{} of {}", tasks(&claim.part), of("the service")),
        (Kind::Service, _) => format!("{}: {}", of("the service"), whole(&claim.part)),
        (Kind::Alias, _) => format!("{}: {}", of("an alias of the service"), whole(&claim.part)),
    }
}

/// Which of its tasks' addresses are told, where that depends on who asks.
fn from(claim: &Claim, sight: Sight<'_>, subject: Subject<'_>) -> String {
    let now = claim.part.now();
    let is_whole = !matches!(claim.kind, Kind::Task(_)) && !matches!(subject, Subject::Tasks { .. });
    if !now.attached || is_whole && now.leads_to_vips() {
        return String::new();
    }
    let Some(networks) = asked_from(claim, sight, subject) else {
        return ", here where this node delivers, elsewhere on their networks".into();
    };
    match networks[..] {
        [] => ", on no network with this client".into(),
        ref shared => format!(", at their addresses on {}", shared.join(", ")),
    }
}

fn whole(part: &Part) -> String {
    let service = &part.now().service;
    match (service.naming.endpoint, service.named_vips().count()) {
        (Endpoint::Dnsrr, _) => format!("endpoint dnsrr, {}", tasks(part)),
        (Endpoint::Vip, 0) if service.vips.is_empty() => format!("it has no VIP, {}", tasks(part)),
        (Endpoint::Vip, 0) => format!("it has no VIP of its tasks' family, {}", tasks(part)),
        (Endpoint::Vip, 1) => "its VIP".into(),
        (Endpoint::Vip, _) => "its VIPs".into(),
    }
}

fn tasks(part: &Part) -> String {
    let backends = &part.now().service.backends;
    let count = |standing| backends.iter().filter(|task| task.standing == standing).count();
    match (count(Standing::Active), count(Standing::Warming)) {
        (0, 0) => format!("none of {} tasks takes connections", backends.len()),
        (0, warming) => format!("{warming} warming of {} tasks", backends.len()),
        (active, _) => format!("{active} active of {} tasks", backends.len()),
    }
}

fn whom(client: IpAddr, sight: Sight<'_>) -> String {
    let (tasks, guest) = match sight {
        Sight::All => return format!("{client} is this node itself, which sees everything"),
        Sight::Some { tasks: [], guest: [] } => {
            return format!("{client} is no task on this node and sees default only");
        }
        Sight::Some { tasks: [], guest } => {
            let networks = guest.join(", ");
            return format!("{client} is a container on this node and no service's task (on {networks})");
        }
        Sight::Some { tasks, guest } => (tasks, guest),
    };
    let of = tasks.iter().map(|part| {
        let networks = part.now().service.naming.networks.join(", ");
        format!("{} (on {networks})", part.name)
    });
    let of = of.collect::<Vec<_>>().join(" and ");
    match guest {
        [] => format!("{client} is a task of {of}"),
        guest => format!("{client} is a task of {of}, and on {}", guest.join(", ")),
    }
}
