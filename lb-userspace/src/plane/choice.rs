//! Which plane serves a frontend, and why. Pure: `status` and `explain` say what the planes do because they ask here, too.

mod reason;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::config::Mode;
use crate::model::{Family, Frontend, Plane, Protocol, ProxyRules, Service, is_served};

pub use reason::Reason;

/// What this node has to choose from.
#[derive(Clone, Debug)]
pub struct Here {
    pub mode: Mode,
    /// Why there is no eBPF plane, in a few words; `None`: there is one.
    pub without_ebpf: Option<Arc<str>>,
}

/// What carries a frontend's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Serving {
    Ebpf,
    Proxy,
}

/// For clients of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// `None`: they are not served here.
    pub plane: Option<Serving>,
    pub reason: Reason,
    /// What else of the service asks for the proxy, which serves it.
    pub also: Vec<Reason>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'s> {
    pub rules: &'s ProxyRules,
    pub protocol: Protocol,
    /// Of the client.
    pub family: Family,
    /// Whether a task could answer in this family; where there is no task at all, it could in both.
    pub has_tasks: bool,
}

impl Here {
    /// Every frontend and family has exactly one answer, and the first reason that decides is the one that is told.
    pub fn choose(&self, asked: Asked<'_>) -> Choice {
        let obstacle = self.obstacle(asked);
        if asked.rules.plane == Plane::Ebpf {
            return match obstacle {
                Some(reason) => Choice::nobody(reason),
                None => Choice::ebpf(Reason::Service(Plane::Ebpf)),
            };
        }
        let wanted = (asked.rules.plane == Plane::Proxy).then_some(Reason::Service(Plane::Proxy));
        let needs = asked.rules.needs().filter(|_| asked.protocol == Protocol::Tcp);
        let mut own = wanted.into_iter().chain(needs.map(Reason::Need));
        match obstacle {
            Some(Reason::Node) => Choice::proxy(Reason::Node, own),
            obstacle => match own.next().or(obstacle) {
                // Who runs an agent with this mode would rather have no plane than another one.
                Some(reason @ Reason::Unavailable(_)) if self.mode == Mode::Ebpf => Choice::nobody(reason),
                Some(reason) => Choice::proxy(reason, own),
                None => Choice::ebpf(Reason::Usual),
            },
        }
    }

    /// What keeps eBPF from serving this, whatever the service wants.
    fn obstacle(&self, asked: Asked<'_>) -> Option<Reason> {
        let node = (self.mode == Mode::Proxy).then_some(Reason::Node);
        let family = || (!asked.has_tasks).then_some(Reason::Family(asked.family));
        let unavailable = || self.without_ebpf.clone().map(Reason::Unavailable);
        node.or_else(unavailable).or_else(family)
    }

    /// The choices for the service's frontends, of which there may be thousands.
    pub fn of<'a>(&'a self, service: &'a Service) -> Choices<'a> {
        Choices {
            here: self,
            rules: &service.proxy,
            served: Family::ALL.map(|family| is_served(&service.backends, family)),
        }
    }

    /// Whether packet programs serve nothing here.
    pub fn is_proxy_alone(&self) -> bool {
        self.mode == Mode::Proxy || self.without_ebpf.is_some()
    }
}

/// The choices of one service.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a> {
    here: &'a Here,
    rules: &'a ProxyRules,
    /// Whether it has tasks, by family.
    served: [bool; 2],
}

impl<'a> Choices<'a> {
    /// For each family in which clients can reach the frontend.
    pub fn at(self, frontend: &Frontend) -> impl Iterator<Item = (Family, Choice)> + use<'a> {
        let (frontend, families) = (*frontend, Family::ALL.into_iter().zip(self.served));
        let families = families.filter(move |(family, _)| frontend.answers(*family));
        families.map(move |(family, has_tasks)| {
            let asked = Asked {
                rules: self.rules,
                protocol: frontend.protocol,
                family,
                has_tasks,
            };
            (family, self.here.choose(asked))
        })
    }
}

impl Choice {
    const fn ebpf(reason: Reason) -> Self {
        Self {
            plane: Some(Serving::Ebpf),
            reason,
            also: Vec::new(),
        }
    }

    fn proxy(reason: Reason, also: impl Iterator<Item = Reason>) -> Self {
        Self {
            plane: Some(Serving::Proxy),
            reason,
            also: also.collect(),
        }
    }

    const fn nobody(reason: Reason) -> Self {
        Self {
            plane: None,
            reason,
            also: Vec::new(),
        }
    }

    /// All reasons in words, the one that decided first.
    pub fn why(&self) -> String {
        let also = self.also.iter().map(|reason| format!("; {reason}"));
        self.reason.to_string() + &also.collect::<String>()
    }
}

impl Serving {
    /// As planes are called in output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Proxy => "proxy",
        }
    }
}
