//! The picture that a follower has, and how it comes to the next one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use prost::Message;

use super::codec::{Decoder, Fault, Problem, decode};
use super::wire::difference::Order;
use super::wire::update::Body;
use super::wire::{Backends, Difference, Update};
use crate::model::{Desired, DesiredBackend, DesiredService};

/// A picture and where it comes from.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// 0: from nowhere that differences could be had from.
    pub epoch: u64,
    pub generation: u64,
    pub desired: Arc<Desired>,
}

/// Why an update is not taken. The picture stays; the next request asks for all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("it changes a picture that is not the one held here")]
    OtherBase,
    #[error("it holds neither a picture nor a difference")]
    Empty,
}

impl Held {
    /// What is there after an update.
    pub fn after(&self, update: Update) -> Result<Self, Unusable> {
        let (epoch, generation) = (update.epoch, update.generation);
        let desired = match update.body.ok_or(Unusable::Empty)? {
            Body::Full(bytes) => Arc::new(decode(&bytes, Some(&self.desired))?),
            Body::Diff(bytes) => {
                let difference = Difference::decode(bytes).map_err(Fault::bytes)?;
                if epoch == 0 || (epoch, difference.since) != (self.epoch, self.generation) {
                    return Err(Unusable::OtherBase);
                }
                if generation == self.generation {
                    Arc::clone(&self.desired)
                } else {
                    Arc::new(apply(&self.desired, difference)?)
                }
            }
        };
        Ok(Self {
            epoch,
            generation,
            desired,
        })
    }
}

fn apply(base: &Desired, difference: Difference) -> Result<Desired, Fault> {
    let mut decoder = Decoder::new(Some(base));
    let mut desired = base.clone();
    for name in &difference.removed_nodes {
        desired.nodes.remove(name.as_str());
    }
    for node in difference.nodes {
        let (name, node) = decoder.node(node)?;
        desired.nodes.insert(name, node);
    }
    for name in &difference.removed_services {
        desired.services.remove(name.as_str());
    }
    for service in difference.services {
        let (name, service) = decoder.service(service)?;
        desired.services.insert(name, service);
    }
    for backends in difference.backends {
        let name = backends.service.clone();
        let place = |fault: Fault| fault.within("service", &name);
        let service = desired.services.get_mut(name.as_str());
        let service = service
            .ok_or(Problem::UnknownService)
            .map_err(|problem| place(problem.into()))?;
        *service = Arc::new(replace(service, backends, &mut decoder).map_err(place)?);
    }
    match difference.order {
        None => {}
        Some(Order::OrderEdit(edit)) => {
            let removed: HashSet<&str> = edit.removed.iter().map(String::as_str).collect();
            desired.order.retain(|name| !removed.contains(&**name));
            desired.order.extend(decoder.names(&edit.appended));
        }
        Some(Order::OrderWhole(order)) => desired.order = decoder.names(&order.names),
    }
    Ok(desired)
}

fn replace(
    service: &DesiredService,
    change: Backends,
    decoder: &mut Decoder<'_>,
) -> Result<DesiredService, Fault> {
    let known = service.backends.iter();
    let mut backends: BTreeMap<Arc<str>, DesiredBackend> = known
        .map(|backend| (Arc::clone(&backend.task), backend.clone()))
        .collect();
    for task in &change.removed {
        backends.remove(task.as_str());
    }
    for backend in change.backends {
        let backend = decoder.backend(backend)?;
        backends.insert(Arc::clone(&backend.task), backend);
    }
    Ok(DesiredService {
        backends: backends.into_values().collect(),
        ..service.clone()
    })
}
