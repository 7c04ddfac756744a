//! Ways back of flows, as the node's proxy asks for them before it asks a task in a client's name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lb_common::key::RevKey;
use lb_common::table::Rev;
use lb_common::{Plain, V4, V6};

use super::maps::{Maps, Table};
use crate::plane::EbpfError;
use crate::plane::proxy::{Backs, Task};

/// Those of established flows, and of those that begin. Read beside whoever writes them.
pub struct WaysBack {
    v4: [Table<RevKey<V4>, Rev<V4>>; 2],
    v6: [Table<RevKey<V6>, Rev<V6>>; 2],
}

impl WaysBack {
    pub fn of(maps: &Maps) -> Result<Self, EbpfError> {
        let (v4, v6) = (&maps.v4, &maps.v6);
        Ok(Self {
            v4: [v4.rev.another()?, v4.half_rev.another()?],
            v6: [v6.rev.another()?, v6.half_rev.another()?],
        })
    }
}

impl Backs for WaysBack {
    fn has(&self, task: Task, client: SocketAddr) -> bool {
        let ports = [task.address, client].map(|end| end.port().to_be_bytes());
        let protocol = task.protocol.number();
        match (task.address.ip(), client.ip()) {
            (IpAddr::V4(task), IpAddr::V4(client)) => {
                let (task, client) = (task.octets(), client.octets());
                has(&self.v4, RevKey::new(task, client, ports[0], ports[1], protocol))
            }
            (IpAddr::V6(task), IpAddr::V6(client)) => {
                let (task, client) = (task.octets(), client.octets());
                has(&self.v6, RevKey::new(task, client, ports[0], ports[1], protocol))
            }
            _ => false,
        }
    }
}

impl fmt::Debug for WaysBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaysBack").finish_non_exhaustive()
    }
}

/// None where it cannot be read.
fn has<K: Plain, V: Plain>(tables: &[Table<K, V>], key: K) -> bool {
    tables.iter().any(|table| matches!(table.get(&key), Ok(Some(_))))
}
