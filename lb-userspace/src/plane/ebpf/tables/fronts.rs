//! `FRONT4` and `FRONT6`: where the pools answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::host::{NODE_VIP4, NODE_VIP6};
use lb_common::key::Front;
use lb_common::table::{GIVEN, INSIDE};
use lb_common::{Plain, V4, V6};

use super::super::maps::Table;
use super::{Tables, mapped};
use crate::model::{Family, Frontend, Pool};
use crate::plane::EbpfError;

impl Tables {
    /// The addresses at which frontends without an address answer, and those of the node's own processes as `OWN` has them;
    /// true where any changed, and then all fronts are to be written again.
    pub fn set_addresses(&mut self, addresses: BTreeSet<IpAddr>, own: &BTreeMap<IpAddr, u8>) -> bool {
        let own = own.iter().map(|(&ip, &value)| (mapped(ip), value)).collect();
        let changed = self.addresses != addresses || self.own_wanted != own;
        self.addresses = addresses;
        self.own_wanted = own;
        changed
    }

    /// Fronts of one pool, each with the pool's number.
    pub(super) fn fronts_of(&self, pool: &Pool, number: u32, fronts: &mut Fronts) {
        let service = self.books.get(&pool.id).and_then(|book| book.service.as_deref());
        for frontend in &pool.frontends {
            let given = service.is_some_and(|service| self.is_given(service, pool, frontend));
            let number = if given { number | GIVEN } else { number };
            match frontend.address {
                Some(address) if frontend.inside => fronts.add(address, frontend, number | INSIDE),
                Some(address) => fronts.add(address, frontend, number),
                None => {
                    // Packets that other nodes pass on are for addresses of theirs.
                    fronts.add(anywhere(pool.family), frontend, number);
                    fronts.add(node_vip(pool.family), frontend, number | INSIDE);
                    let family = |address: &&IpAddr| Family::of(**address) == pool.family;
                    for &address in self.addresses.iter().filter(family) {
                        if !self.is_resolver(address, frontend) {
                            fronts.add(address, frontend, number);
                        }
                    }
                }
            }
        }
    }

    /// How many that are.
    pub(super) fn count_fronts(&self, pool: &Pool) -> usize {
        let mut fronts = Fronts::default();
        self.fronts_of(pool, 0, &mut fronts);
        fronts.v4.len() + fronts.v6.len()
    }

    /// Writes what is wanted.
    pub(super) fn add_fronts(&mut self, wanted: &Fronts) -> Result<(), EbpfError> {
        let mut full = BTreeSet::new();
        add(&mut self.maps.v4.front, &mut self.fronts4, &wanted.v4, &mut full)?;
        add(&mut self.maps.v6.front, &mut self.fronts6, &wanted.v6, &mut full)?;
        self.refuse_fronts(&full);
        Ok(())
    }

    /// Removes those of `old` that are not wanted, unless they lead to another pool by now.
    pub(super) fn remove_fronts(&mut self, old: &Fronts, wanted: &Fronts) -> Result<(), EbpfError> {
        remove(&mut self.maps.v4.front, &mut self.fronts4, &old.v4, &wanted.v4)?;
        remove(&mut self.maps.v6.front, &mut self.fronts6, &old.v6, &wanted.v6)
    }

    /// Everything that is there.
    pub(super) fn present_fronts(&self) -> Fronts {
        Fronts {
            v4: self.fronts4.clone(),
            v6: self.fronts6.clone(),
        }
    }

    /// The number of the pool that a client on this node asks for, as the programs find it: a port of another node's is
    /// served from here where it is published.
    pub(super) fn pool_from_here(&self, address: IpAddr, port: u16, protocol: u8) -> Option<u32> {
        self.pool_at(address, port, protocol).or_else(|| match address {
            IpAddr::V4(ip) if self.peers.contains_key(&ip.octets()) => {
                self.pool_at(anywhere(Family::V4), port, protocol)
            }
            _ => None,
        })
    }

    fn pool_at(&self, address: IpAddr, port: u16, protocol: u8) -> Option<u32> {
        let port = port.to_be_bytes();
        let value = match address {
            IpAddr::V4(ip) => self.fronts4.get(&Front::new(ip.octets(), port, protocol)),
            IpAddr::V6(ip) => self.fronts6.get(&Front::new(ip.octets(), port, protocol)),
        };
        value.map(|value| value & !(INSIDE | GIVEN))
    }
}

/// The address that stands for those of all other nodes.
pub(super) const fn anywhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Where this node's own processes find published ports.
const fn node_vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => {
            let [a, b, c, d] = NODE_VIP4;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from_octets(NODE_VIP6)),
    }
}

/// Fronts of both families: the numbers of the pools they lead to, with [`INSIDE`] and [`GIVEN`].
#[derive(Default)]
pub(super) struct Fronts {
    pub v4: HashMap<Front<V4>, u32>,
    pub v6: HashMap<Front<V6>, u32>,
}

impl Fronts {
    fn add(&mut self, address: IpAddr, frontend: &Frontend, number: u32) {
        let protocol = frontend.protocol.number();
        let port = frontend.port.to_be_bytes();
        match address {
            IpAddr::V4(ip) => self.v4.insert(Front::new(ip.octets(), port, protocol), number),
            IpAddr::V6(ip) => self.v6.insert(Front::new(ip.octets(), port, protocol), number),
        };
    }
}

fn add<F>(
    map: &mut Table<F, u32>,
    book: &mut HashMap<F, u32>,
    wanted: &HashMap<F, u32>,
    full: &mut BTreeSet<u32>,
) -> Result<(), EbpfError>
where
    F: Plain + Hash + Eq,
{
    for (&front, &number) in wanted {
        if book.get(&front) == Some(&number) {
            continue;
        }
        if map.put(front, number)? {
            book.insert(front, number);
        } else {
            full.insert(number & !(INSIDE | GIVEN));
        }
    }
    Ok(())
}

fn remove<F>(
    map: &mut Table<F, u32>,
    book: &mut HashMap<F, u32>,
    old: &HashMap<F, u32>,
    wanted: &HashMap<F, u32>,
) -> Result<(), EbpfError>
where
    F: Plain + Hash + Eq,
{
    for (front, number) in old {
        if !wanted.contains_key(front) && book.get(front) == Some(number) {
            map.remove(front)?;
            book.remove(front);
        }
    }
    Ok(())
}
