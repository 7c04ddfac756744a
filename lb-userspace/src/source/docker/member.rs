//! What one container is: a task of a service, somebody who only asks for names, or none of our business.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::validate::is_host_name;
use crate::source::engine::local::{GATEWAY, TASK};
use crate::source::engine::{Container, Run};
use crate::source::labels::{self, Fault, Settings};

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";
/// What podman starts a pod with; nobody asks it anything.
const PAUSE: &str = "io.podman.annotations.infra";

/// Networks that a container is on, by each of its addresses.
pub type Places = BTreeMap<IpAddr, Arc<[Arc<str>]>>;

pub enum Role {
    /// A swarm's.
    Left,
    /// It asks for names and serves none.
    Guest(Places),
    Task(Box<Member>),
}

/// A container as a task of a service.
pub struct Member {
    pub container: Arc<Container>,
    pub service: Arc<str>,
    /// What it is known by as long as it exists, however it is renamed and whoever follows it.
    pub task: Arc<str>,
    /// Of Compose: its project and what the service is called there.
    pub compose: Option<(Arc<str>, Arc<str>)>,
    pub settings: Settings,
    pub faults: Vec<Fault>,
}

/// What this container is.
pub fn role(container: &Arc<Container>) -> Role {
    let label = |name: &str| {
        container
            .labels
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    if container.labels.contains_key(TASK) {
        return Role::Left;
    }
    let labels = container
        .labels
        .iter()
        .map(|(label, value)| (label.as_str(), value.as_str()));
    let (settings, faults) = labels::read(labels);
    let one_off = label(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if !settings.enable || one_off || label(PAUSE).is_some() {
        return Role::Guest(guest(container));
    }
    let compose = label(PROJECT).zip(label(SERVICE));
    let compose = compose.map(|(project, service)| (Arc::<str>::from(project), Arc::<str>::from(service)));
    let service = match (&settings.service, &compose) {
        (Some(service), _) => Arc::clone(service),
        (None, Some((project, service))) => format!("{project}_{service}").into(),
        (None, None) => Arc::clone(&container.name),
    };
    let number = label(NUMBER).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let task = match number.filter(|_| compose.is_some()) {
        Some(number) => format!("{service}_{number}.{}", container.short_id()),
        None => format!("{service}.{}", container.short_id()),
    };
    Role::Task(Box::new(Member {
        container: Arc::clone(container),
        service,
        task: task.into(),
        compose,
        settings,
        faults,
    }))
}

/// What makes a container one of a service. Those of different origins are no replicas of each other, even if their services
/// have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'m> {
    /// Somebody wrote so: it joins whoever else is there.
    Label,
    /// Project and service.
    Compose(&'m str, &'m str),
    Name,
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label => f.write_str("containers with that label"),
            Self::Compose(project, service) => write!(f, "service {service} of Compose project {project}"),
            Self::Name => f.write_str("a container of that name"),
        }
    }
}

impl Member {
    /// Whether its service is there because of it even while nothing can answer: a Compose service is until `down`, a
    /// container by itself as long as it runs.
    pub fn keeps(&self) -> bool {
        self.compose.is_some() || self.runs()
    }

    pub fn runs(&self) -> bool {
        matches!(self.container.run, Run::Running | Run::Paused | Run::Restarting)
    }

    pub fn origin(&self) -> Origin<'_> {
        match (&self.settings.service, &self.compose) {
            (Some(_), _) => Origin::Label,
            (None, Some((project, service))) => Origin::Compose(project, service),
            (None, None) => Origin::Name,
        }
    }

    /// When it was made; of two at one time the same one is the older everywhere.
    pub fn age(&self) -> (i64, &str) {
        (self.container.created, &self.container.id)
    }

    /// What others call its service, beside the name that everybody uses.
    pub fn aliases(&self) -> impl Iterator<Item = &Arc<str>> {
        let short = self.compose.as_ref().map(|(_, service)| service);
        let named = self.compose.is_some() && !self.is_numbered();
        let own = named.then_some(&self.container.name);
        let networks = self
            .container
            .networks
            .values()
            .flat_map(|joined| &joined.aliases);
        // What only this container is called leads to it and not to its service.
        let shared = networks.filter(|alias| **alias != self.container.name);
        short
            .into_iter()
            .chain(own)
            .chain(shared)
            .filter(|alias| is_host_name(alias))
    }

    /// `shop_web_1` or `shop-web-1`, as Compose names containers where nobody says otherwise.
    fn is_numbered(&self) -> bool {
        let Some((project, service)) = &self.compose else {
            return false;
        };
        let rest = self
            .container
            .name
            .strip_prefix(&**project)
            .map(|rest| rest.trim_start_matches(['_', '-']));
        let number = rest
            .and_then(|rest| rest.strip_prefix(&**service))
            .map(|rest| rest.trim_start_matches(['_', '-']));
        // One that is being replaced has something before its name.
        let replaced = self.container.name.contains(&format!("_{project}"));
        replaced
            || number
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// Where it asks for names from, while it is there.
pub fn guest(container: &Container) -> Places {
    if !matches!(container.run, Run::Running | Run::Paused) || container.host {
        return Places::new();
    }
    let networks = container.networks.iter().filter(|(name, _)| ***name != *GATEWAY);
    let names: Arc<[Arc<str>]> = networks.clone().map(|(name, _)| Arc::clone(name)).collect();
    let addresses = networks.flat_map(|(_, joined)| &joined.addresses);
    addresses.map(|address| (*address, Arc::clone(&names))).collect()
}
