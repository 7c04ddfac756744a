//! Names that are said often are kept once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::Desired;

/// Those of nodes, services and networks: a picture of 10,000 tasks has a few hundred of them.
#[derive(Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    pub fn of(base: Option<&Desired>) -> Self {
        let keys = base.map(|base| base.nodes.keys().chain(base.services.keys()).cloned());
        Self(keys.into_iter().flatten().collect())
    }

    pub fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}
