//! Whom to ask for names that are not the mesh's, where the configuration does not say.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

/// The second is systemd-resolved's list of the servers behind it, for machines whose resolv.conf names only itself.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The node's own name servers but those that are the node itself: it would ask itself in circles, or somebody who asks
/// it.
pub fn upstreams(listen: &[SocketAddr], own: &HashSet<IpAddr>) -> Vec<SocketAddr> {
    let is_own = |server: &SocketAddr| {
        let ip = server.ip();
        ip.is_loopback()
            || ip.is_unspecified()
            || own.contains(&ip)
            || listen.iter().any(|address| address.ip() == ip)
    };
    let read = |file: &&str| std::fs::read_to_string(Path::new(file)).unwrap_or_default();
    let lists = FILES.iter().map(|file| {
        let mut servers = servers(&read(file));
        servers.retain(|server| !is_own(server));
        servers
    });
    let mut lists = lists.filter(|servers| !servers.is_empty());
    lists.next().unwrap_or_default()
}

/// `nameserver` lines (resolv.conf(5)), each once.
fn servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        if let Some(server) = words.next().and_then(address)
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers
}

/// With a zone, as `fe80::1%eth0`.
fn address(text: &str) -> Option<SocketAddr> {
    let Some((ip, zone)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, 53).into());
    };
    let by_name = || nix::net::if_::if_nametoindex(zone).ok();
    let zone = zone.parse().ok().or_else(by_name)?;
    Some(SocketAddrV6::new(ip.parse::<Ipv6Addr>().ok()?, 53, 0, zone).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 192.0.2.1\nsearch corp.example\nnameserver 192.0.2.53\nnameserver\t2001:db8::53 # x\n\
                    nameserver fe80::1%7\nnameserver 192.0.2.53\nnameserver nonsense\noptions ndots:1\n";
        let read: Vec<_> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.53:53", "[2001:db8::53]:53", "[fe80::1%7]:53"]);
    }
}
