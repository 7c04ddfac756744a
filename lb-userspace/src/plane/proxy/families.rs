//! In which families clients can know this machine: nobody needs a socket for others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::host::NODE_VIP6;

use crate::model::Family;

/// Those of the machine's addresses; all, where none could be had.
pub fn known(addresses: &BTreeSet<IpAddr>) -> Vec<Family> {
    if addresses.is_empty() {
        return Family::ALL.into();
    }
    let is_known = |family: &Family| {
        let mut addresses = addresses.iter().filter(|ip| Family::of(**ip) == *family);
        addresses.any(|ip| is_public(*ip))
    };
    Family::ALL.into_iter().filter(is_known).collect()
}

/// Others than this machine's own processes can use it, and not only on one link.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        // What `portico0` has is for this node alone.
        IpAddr::V6(ip) => {
            !ip.is_loopback() && !ip.is_unicast_link_local() && ip.octets()[..8] != NODE_VIP6[..8]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_link_or_one_node_are_nobodys_way() {
        for ip in [
            "127.0.0.1",
            "169.254.20.11",
            "::1",
            "fe80::1",
            "fd70:6f72:7469:636f::11",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["192.0.2.11", "10.0.0.1", "2001:db8::11", "fd00::1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
