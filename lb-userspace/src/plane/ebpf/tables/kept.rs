//! What this node's own listeners have of the published ports: `KEPT`.

use std::collections::HashMap;

use lb_common::V6;
use lb_common::key::Front;

use super::Tables;
use crate::plane::{EbpfError, Problem};

impl Tables {
    /// Writes what there is room for.
    pub fn set_kept(&mut self, wanted: &HashMap<Front<V6>, u8>) -> Result<(), EbpfError> {
        let gone: Vec<_> = self
            .kept
            .keys()
            .filter(|front| !wanted.contains_key(*front))
            .copied()
            .collect();
        for front in gone {
            self.maps.kept.remove(&front)?;
            self.kept.remove(&front);
        }
        self.unkept = 0;
        for (&front, &value) in wanted {
            if self.kept.get(&front) == Some(&value) {
                continue;
            }
            if self.maps.kept.put(front, value)? {
                self.kept.insert(front, value);
            } else {
                self.unkept += 1;
            }
        }
        Ok(())
    }

    /// Listeners that the programs at sockets take for what they are not.
    pub(super) fn crowded_out(&self) -> Option<Problem> {
        let size = self.limits.fronts;
        let enough = self.kept.len() + self.unkept;
        (self.unkept > 0).then(|| Problem {
            error: format!(
                "no room for {} of the {enough} listeners that this node itself has at published ports: the kernel's table holds {size} fronts",
                self.unkept
            ),
            traffic: "what this node's own processes open to such a port may reach the service in place of the listener, or an engine's listener in place of the service; everybody else is served".into(),
            fix: format!(
                "set limits.fronts in portico.toml to {enough} or more and restart the agent; connections stay"
            ),
        })
    }
}
