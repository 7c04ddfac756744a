//! Listeners of this node that are bound to a device, as systemd-resolved is to `lo`: when the programs at sockets ask whether
//! anybody listens, the kernel passes them over.

use std::collections::{BTreeSet, HashSet};
use std::io;

use lb_common::V6;
use lb_common::key::{Front, TCP, UDP};
use lb_common::socket::map;

use super::diag::{self, ID};

/// States of a TCP socket that listens and of a UDP socket that hears everybody (`include/net/tcp_states.h`).
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;

/// Where listeners bound to a device have one of `ports`; a listener at all addresses has the one that is none.
pub fn bound_to_devices(ports: &BTreeSet<u16>) -> io::Result<HashSet<Front<V6>>> {
    let mut fronts = HashSet::new();
    for (protocol, states) in [(TCP, LISTEN), (UDP, CLOSE)] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            diag::all(protocol, states, family as u8, |id| {
                let found = bound(id, family == libc::AF_INET).filter(|(_, port)| ports.contains(port));
                let Some((address, port)) = found else { return };
                fronts.insert(Front::new(address, port.to_be_bytes(), protocol));
            })?;
        }
    }
    Ok(fronts)
}

/// Address and port of a socket that is bound to a device. An identity has both ports, both addresses, and the device.
fn bound(id: &[u8; ID], is_ipv4: bool) -> Option<(V6, u16)> {
    let [a, b, _, _, rest @ ..] = id;
    let address: &V6 = rest.first_chunk()?;
    let device: &[u8; 4] = id.get(36..)?.first_chunk()?;
    let address = match *address {
        // One at all addresses of IPv6 may hear IPv4 as well: all are the same.
        [0, 0, 0, 0, ..] if is_ipv4 => [0; 16],
        [a, b, c, d, ..] if is_ipv4 => map([a, b, c, d]),
        address => address,
    };
    (*device != [0; 4]).then_some((address, u16::from_be_bytes([*a, *b])))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_listener_counts_once_it_is_bound_to_a_device() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::]:0").unwrap();
        let ports = [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()];
        let found = || bound_to_devices(&ports.into()).unwrap();
        assert_eq!(found(), HashSet::new());
        SockRef::from(&tcp).bind_device(Some(b"lo")).unwrap();
        SockRef::from(&udp).bind_device(Some(b"lo")).unwrap();
        let [tcp, udp] = ports.map(u16::to_be_bytes);
        let wanted = [
            Front::new(map([127, 0, 0, 1]), tcp, TCP),
            Front::new([0; 16], udp, UDP),
        ];
        assert_eq!(found(), wanted.into());
        assert_eq!(bound_to_devices(&BTreeSet::new()).unwrap(), HashSet::new());
    }
}
