//! What this node's own listeners have of the published ports, where the programs at sockets cannot find it out by asking the
//! kernel: it passes over listeners that are bound to a device, as systemd-resolved's are to `lo`, and does not tell a
//! container engine's from others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

use lb_common::V6;
use lb_common::host::{KEPT, PLACEHOLDER};
use lb_common::key::{Front, TCP, UDP};
use lb_common::socket::map;

use super::diag::{self, ID};

/// States of a TCP socket that listens and of a UDP socket that hears everybody (`include/net/tcp_states.h`).
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;

const ANYWHERE: V6 = [0; 16];

/// One of this node's sockets that anybody can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// With no address where it listens at all of them, of either family.
    front: Front<V6>,
    is_at_device: bool,
    inode: u32,
}

impl Listener {
    pub const fn inode(&self) -> u32 {
        self.inode
    }

    /// Whether it listens at all addresses, and at one of these ports.
    pub fn is_at_one_of(&self, ports: &HashSet<(u16, u8)>) -> bool {
        let front = &self.front;
        front.address == ANYWHERE && ports.contains(&(u16::from_be_bytes(front.port), front.protocol))
    }
}

/// Those that have one of `ports`.
pub fn listeners(ports: &BTreeSet<u16>) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (protocol, states) in [(TCP, LISTEN), (UDP, CLOSE)] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            diag::all(protocol, states, family as u8, |id, inode| {
                let found = read(id, inode, family == libc::AF_INET, protocol);
                listeners.extend(
                    found
                        .filter(|(port, _)| ports.contains(port))
                        .map(|(_, found)| found),
                );
            })?;
        }
    }
    Ok(listeners)
}

/// The sockets that have them.
pub fn inodes(listeners: &[Listener]) -> HashSet<u32> {
    listeners.iter().map(|listener| listener.inode).collect()
}

/// What `KEPT` shall say.
pub fn kept(listeners: &[Listener], is_engines: impl Fn(&Listener) -> bool) -> HashMap<Front<V6>, u8> {
    let mut at: HashMap<Front<V6>, Vec<&Listener>> = HashMap::new();
    for listener in listeners {
        at.entry(listener.front).or_default().push(listener);
    }
    let is_held = |front: &Front<V6>| {
        let listeners = at.get(front);
        listeners.is_some_and(|all| all.iter().all(|listener| is_engines(listener)))
    };
    let value = |front: &Front<V6>, listeners: &[&Listener]| {
        if is_held(front) {
            return Some(PLACEHOLDER);
        }
        // One with an address of its own goes before the placeholder at all of them.
        let anywhere = Front {
            address: ANYWHERE,
            ..*front
        };
        let at_device = listeners.iter().any(|listener| listener.is_at_device);
        (at_device || is_held(&anywhere)).then_some(KEPT)
    };
    let values = at
        .iter()
        .map(|(front, listeners)| (*front, value(front, listeners)));
    values
        .filter_map(|(front, value)| Some((front, value?)))
        .collect()
}

/// Port and socket. An identity has both ports, both addresses, and the device.
fn read(id: &[u8; ID], inode: u32, is_ipv4: bool, protocol: u8) -> Option<(u16, Listener)> {
    let [a, b, _, _, rest @ ..] = id;
    let address: &V6 = rest.first_chunk()?;
    let device: &[u8; 4] = id.get(36..)?.first_chunk()?;
    let address = match *address {
        // One at all addresses of IPv6 may hear IPv4 as well: all are the same.
        [0, 0, 0, 0, ..] if is_ipv4 => ANYWHERE,
        [a, b, c, d, ..] if is_ipv4 => map([a, b, c, d]),
        address => address,
    };
    let listener = Listener {
        front: Front::new(address, [*a, *b], protocol),
        is_at_device: *device != [0; 4],
        inode,
    };
    Some((u16::from_be_bytes([*a, *b]), listener))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_listener_counts_once_it_is_bound_to_a_device() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::]:0").unwrap();
        let ports = [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()];
        let found = || kept(&listeners(&ports.into()).unwrap(), |_| false);
        assert_eq!(found(), HashMap::new());
        SockRef::from(&tcp).bind_device(Some(b"lo")).unwrap();
        SockRef::from(&udp).bind_device(Some(b"lo")).unwrap();
        let [tcp, udp] = ports.map(u16::to_be_bytes);
        let wanted = [
            (Front::new(map([127, 0, 0, 1]), tcp, TCP), KEPT),
            (Front::new(ANYWHERE, udp, UDP), KEPT),
        ];
        assert_eq!(found(), wanted.into());
        assert_eq!(listeners(&BTreeSet::new()).unwrap(), []);
    }

    #[test]
    fn a_socket_is_listed_with_its_inode() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let listed = listeners(&[port].into()).unwrap();
        let file = std::fs::metadata(format!("/proc/self/fd/{}", tcp.as_raw_fd())).unwrap();
        assert_eq!(inodes(&listed), [file.ino() as u32].into());
    }

    #[test]
    fn an_engines_listeners_are_placeholders_and_others_go_before_them() {
        let listener = |address: V6, port: u16, inode| Listener {
            front: Front::new(address, port.to_be_bytes(), TCP),
            is_at_device: false,
            inode,
        };
        let (loopback, own) = (map([127, 0, 0, 1]), map([192, 0, 2, 11]));
        let all = [
            // The engine's in both families, and another's at one address.
            listener(ANYWHERE, 80, 1),
            listener(ANYWHERE, 80, 2),
            listener(loopback, 80, 10),
            // Another's beside the engine's: SO_REUSEPORT, or the other family.
            listener(ANYWHERE, 81, 3),
            listener(ANYWHERE, 81, 11),
            // The engine's at one address alone.
            listener(own, 82, 4),
            listener(ANYWHERE, 82, 12),
            listener(loopback, 83, 13),
        ];
        let front = |address, port: u16| Front::new(address, port.to_be_bytes(), TCP);
        let wanted = [
            (front(ANYWHERE, 80), PLACEHOLDER),
            (front(loopback, 80), KEPT),
            (front(own, 82), PLACEHOLDER),
        ];
        assert_eq!(kept(&all, |listener| listener.inode < 10), wanted.into());
        let held = HashSet::from([(80, TCP), (82, TCP)]);
        let at = all.iter().filter(|listener| listener.is_at_one_of(&held));
        assert_eq!(at.map(Listener::inode).collect::<Vec<_>>(), [1, 2, 12]);
    }
}
