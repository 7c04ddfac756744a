//! Which line an object came from.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::Location;

use crate::model::validate::Place;

#[derive(Default)]
pub struct Places {
    pub nodes: HashMap<Arc<str>, Location>,
    pub services: HashMap<Arc<str>, ServicePlaces>,
}

/// VIPs, ports and backends in the order of the desired service.
pub struct ServicePlaces {
    pub service: Location,
    pub vips: Vec<Location>,
    pub exposed: Vec<Location>,
    pub frontends: Vec<Location>,
    pub backends: Vec<Location>,
}

impl ServicePlaces {
    pub fn new(service: Location) -> Self {
        Self {
            service,
            vips: Vec::new(),
            exposed: Vec::new(),
            frontends: Vec::new(),
            backends: Vec::new(),
        }
    }
}

impl Places {
    pub fn of(&self, place: &Place) -> Location {
        let found = match place {
            Place::Node(name) => self.nodes.get(name),
            Place::Service(name) => self.services.get(name).map(|places| &places.service),
            Place::Vip { service, index } => self.in_service(service, *index, |places| &places.vips),
            Place::Exposed { service, index } => self.in_service(service, *index, |places| &places.exposed),
            Place::Frontend { service, index } => {
                self.in_service(service, *index, |places| &places.frontends)
            }
            Place::Backend { service, index } => self.in_service(service, *index, |places| &places.backends),
        };
        found.copied().unwrap_or(Location::UNKNOWN)
    }

    fn in_service(
        &self,
        service: &str,
        index: usize,
        list: impl Fn(&ServicePlaces) -> &Vec<Location>,
    ) -> Option<&Location> {
        list(self.services.get(service)?).get(index)
    }
}
