//! `portico explain SERVICE`: how a service is balanced, in numbers; `cli::explain` adds the words.
//!
//! Shares are counted in the head tables that the programs use, made by the same function; what scaling would move is
//! counted in tables made for the changed set.

mod scale;
mod seen;
mod share;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Problem;
use super::facts::Facts;
use super::naming::{self, NamingView, label};
use super::rules::RulesView;
use super::service;
use super::serving::{self, Carried};
use crate::model::{Frontend, Node, Pool, Service};

pub use scale::Scaling;
pub use seen::{Mask, Seen};
pub use share::{Evenness, Share};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub service: String,
    pub generation: u64,
    /// The node that this is said of.
    #[serde(default)]
    pub node: String,
    /// All nodes, by name.
    #[serde(default)]
    pub nodes: Vec<NodePlane>,
    #[serde(default)]
    pub rules: RulesView,
    /// `none` or `client-ip`.
    pub affinity: String,
    pub naming: NamingView,
    /// Its name leads to its VIPs, not to its tasks.
    pub leads_to_vip: bool,
    pub answers: Vec<Answer>,
    pub tables: Vec<Table>,
    pub seen: Seen,
    /// Nodes that new connections avoid because they are silent.
    pub suspected: Vec<String>,
    /// What the operator should know, each with its remedy.
    pub warnings: Vec<String>,
}

/// What serves at a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlane {
    pub name: String,
    /// See [`NodeRow::plane`](super::node::NodeRow::plane).
    pub plane: Option<String>,
    /// Of the service.
    pub backends: usize,
}

/// Where one frontend answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub port: u16,
    pub protocol: String,
    pub target_port: u16,
    /// The VIP, or the underlay addresses of the nodes, which answer on all their other addresses too.
    pub addresses: Vec<IpAddr>,
    pub vip: bool,
    /// `IPv4`, `IPv6`: families in which there is a backend.
    pub families: Vec<String>,
    /// What carries the clients of each family.
    #[serde(default)]
    pub carried: Vec<Carried>,
}

/// One head table: the tasks of one port and one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub target_port: u16,
    pub family: String,
    pub slots: u32,
    pub shares: Vec<Share>,
    pub evenness: Evenness,
    /// One task more; none where there is no task to be like.
    pub up: Option<Scaling>,
    /// The highest-numbered task gone; none where none would remain.
    pub down: Option<Scaling>,
}

/// Explains the service called `name`.
pub fn explain(facts: &Facts, name: &str) -> Result<Explanation, Problem> {
    let service = service::find(facts, name)?;
    let pools: Vec<&Pool> = facts.pools(&service.name).collect();
    let tables: Vec<Table> = pools.iter().map(|pool| table(facts, pool)).collect();
    Ok(Explanation {
        service: service.name.to_string(),
        generation: facts.snapshot.generation,
        node: facts.node.to_string(),
        nodes: nodes(facts, service),
        rules: RulesView::from(&service.proxy),
        affinity: service.affinity.label().into(),
        naming: naming::naming(service),
        leads_to_vip: service.named_vips().next().is_some(),
        answers: service
            .frontends
            .iter()
            .map(|front| answer(facts, service, &pools, front))
            .collect(),
        seen: seen::seen(facts, service),
        suspected: suspected(facts, service),
        warnings: warnings(facts, service, &tables),
        tables,
    })
}

fn table(facts: &Facts, pool: &Pool) -> Table {
    let heads = share::heads(facts.seed, pool);
    Table {
        target_port: pool.target_port,
        family: label(pool.family).into(),
        slots: pool.slots,
        shares: share::shares(facts, pool, &heads),
        evenness: share::evenness(pool, &heads),
        up: scale::up(facts, pool, &heads),
        down: scale::down(facts.seed, pool, &heads),
    }
}

fn answer(facts: &Facts, service: &Service, pools: &[&Pool], front: &Frontend) -> Answer {
    let nodes = facts.snapshot.nodes.values().map(|node| node.address.into());
    let families = pools
        .iter()
        .filter(|pool| pool.frontends.contains(front) && !pool.members.is_empty());
    Answer {
        port: front.port,
        protocol: front.protocol.label().into(),
        target_port: front.target_port,
        addresses: front
            .address
            .map_or_else(|| nodes.collect(), |address| vec![address]),
        vip: front.address.is_some(),
        families: families.map(|pool| label(pool.family).into()).collect(),
        carried: serving::carried(facts, service, front),
    }
}

fn nodes(facts: &Facts, service: &Service) -> Vec<NodePlane> {
    let runs = |node: &Node| {
        let backends = service.backends.iter();
        backends.filter(|backend| backend.node == node.name).count()
    };
    let nodes = facts.snapshot.nodes.values().map(|node| NodePlane {
        name: node.name.to_string(),
        plane: facts.plane_shown(node),
        backends: runs(node),
    });
    nodes.collect()
}

fn suspected(facts: &Facts, service: &Service) -> Vec<String> {
    let nodes = facts.snapshot.nodes.values().filter(|node| node.suspected);
    nodes
        .filter(|node| service.backends.iter().any(|backend| backend.node == node.name))
        .map(|node| node.name.to_string())
        .collect()
}

fn warnings(facts: &Facts, service: &Service, tables: &[Table]) -> Vec<String> {
    let noted = facts.notes(&service.name).map(|note| {
        let Problem {
            what, traffic, fix, ..
        } = &note.problem;
        format!("{what}; {traffic}; {}", fix.as_deref().unwrap_or_default())
    });
    let mut warnings: Vec<String> = noted.collect();
    if service.frontends.is_empty() {
        warnings.push("it has no port: nothing leads to it".into());
    }
    if let Some(problem) = naming::without_vip(service) {
        warnings.push(format!(
            "{}: {}",
            problem.what,
            problem.why.as_deref().unwrap_or_default()
        ));
    }
    if service.backends.is_empty() {
        warnings.push("it has no backend: connections are dropped for 10 s and refused after that".into());
    }
    if let Some(more) = tables
        .iter()
        .filter_map(|table| table.evenness.better_slots)
        .max()
    {
        warnings.push(format!(
            "{} slots are few for {} backends; `slots: {more}` in the services file spreads connections more evenly \
             (connections that are open when the size changes can be lost)",
            service.slots,
            service.backends.len(),
        ));
    }
    let without = |family: &str| {
        tables
            .iter()
            .any(|table| table.family == family && table.shares.is_empty())
    };
    for family in ["IPv4", "IPv6"].into_iter().filter(|family| without(family)) {
        warnings.push(format!(
            "no backend has an {family} address: {family} clients are not served"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn a_published_port_answers_on_every_node_in_the_families_that_have_backends() {
        let explanation = explain(&sample::facts(), "web").unwrap();
        let [answer] = &explanation.answers[..] else {
            panic!("{explanation:?}")
        };
        assert_eq!((answer.port, answer.target_port, answer.vip), (8080, 80, false));
        assert_eq!(answer.addresses.len(), 3);
        assert_eq!(answer.families, ["IPv4"]);
        assert_eq!(explanation.warnings, [] as [&str; 0]);
    }

    #[test]
    fn each_node_stands_in_for_clients_that_its_tasks_cannot_see() {
        let mut facts = sample::facts();
        let own: Vec<IpAddr> = vec![[192, 0, 2, 11].into(), "2001:db8::11".parse().unwrap()];
        facts.planes[0].report.masks = own.clone();
        facts.planes[0].report.flat = vec!["10.1.0.0/16".parse().unwrap()];
        let seen = explain(&facts, "web").unwrap().seen;
        let masks: Vec<_> = seen
            .masks
            .iter()
            .map(|mask| (&*mask.node, &mask.addresses))
            .collect();
        assert_eq!(masks[0], ("node1", &own));
        assert_eq!(masks[1], ("node2", &vec![[192, 0, 2, 12].into()]));
        assert_eq!(seen.flat.len(), 1);
    }

    #[test]
    fn too_few_slots_are_warned_of_with_a_number_that_is_enough() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| sample::pool(snapshot).slots = 1024);
        let explanation = explain(&facts, "web").unwrap();
        assert_eq!(explanation.tables[0].evenness.better_slots, Some(4096));
        assert!(
            explanation.warnings[0].contains("`slots: 4096`"),
            "{:?}",
            explanation.warnings
        );
    }
}
