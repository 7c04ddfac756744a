//! `FLAT4` and `FLAT6`: the networks in which an address means the same on every node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use ipnet::IpNet;
use lb_common::{V4, V6};

use super::maps::{failed, taken};
use crate::plane::{Difference, EbpfError};

type Trie<A> = LpmTrie<MapData, A, u32>;

/// Both tables.
pub struct Flat {
    v4: Trie<V4>,
    v6: Trie<V6>,
}

impl Flat {
    pub fn take(object: &mut Ebpf) -> Result<Self, EbpfError> {
        Ok(Self {
            v4: LpmTrie::try_from(taken(object, "FLAT4")?).map_err(failed("open", "FLAT4"))?,
            v6: LpmTrie::try_from(taken(object, "FLAT6")?).map_err(failed("open", "FLAT6"))?,
        })
    }

    /// Makes them hold these networks and no others; gives what was different.
    pub fn set(&mut self, wanted: &[IpNet]) -> Result<Vec<Difference>, EbpfError> {
        let wanted: BTreeSet<IpNet> = wanted.iter().map(IpNet::trunc).collect();
        let present = self.all()?;
        let mut differences = Vec::new();
        for &net in wanted.difference(&present) {
            self.write(net, true)?;
            differences.push(difference(net, "flat", "nothing"));
        }
        for &net in present.difference(&wanted) {
            self.write(net, false)?;
            differences.push(difference(net, "nothing", "flat"));
        }
        Ok(differences)
    }

    fn all(&self) -> Result<BTreeSet<IpNet>, EbpfError> {
        let mut all = BTreeSet::new();
        for key in self.v4.keys() {
            let key = key.map_err(failed("read", "FLAT4"))?;
            all.extend(IpNet::new(IpAddr::from(key.data()), key.prefix_len() as u8));
        }
        for key in self.v6.keys() {
            let key = key.map_err(failed("read", "FLAT6"))?;
            all.extend(IpNet::new(IpAddr::from(key.data()), key.prefix_len() as u8));
        }
        Ok(all)
    }

    fn write(&mut self, net: IpNet, there: bool) -> Result<(), EbpfError> {
        let length = net.prefix_len().into();
        match net.addr() {
            IpAddr::V4(address) => put(&mut self.v4, &Key::new(length, address.octets()), there)
                .map_err(failed("write", "FLAT4")),
            IpAddr::V6(address) => put(&mut self.v6, &Key::new(length, address.octets()), there)
                .map_err(failed("write", "FLAT6")),
        }
    }
}

fn put<A: aya::Pod>(trie: &mut Trie<A>, key: &Key<A>, there: bool) -> Result<(), MapError> {
    if there {
        trie.insert(key, 1, 0)
    } else {
        trie.remove(key)
    }
}

fn difference(net: IpNet, wanted: &str, found: &str) -> Difference {
    Difference {
        entry: format!("FLAT[{net}]"),
        wanted: wanted.into(),
        found: found.into(),
        repaired: true,
    }
}
