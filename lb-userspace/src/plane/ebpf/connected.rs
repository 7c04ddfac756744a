//! Connections of the node itself on published ports: on the very first start a port may already have some, to a proxy
//! that served it until now. The programs ask the node's own sockets first where there are any, so that those go on.

use std::collections::BTreeSet;

/// Sockets of this network namespace.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// State of a listening socket, which is no connection (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";

/// Local ports of all TCP connections of this namespace. A table that cannot be read counts as empty.
pub fn ports() -> BTreeSet<u16> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    TABLES.iter().flat_map(|path| parse(&read(path))).collect()
}

/// Lines of the form "0: 0100007F:1F90 0200007F:C350 01 …": local and remote end and state, in hexadecimal.
fn parse(table: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        (state != LISTEN)
            .then(|| u16::from_str_radix(port, 16).ok())
            .flatten()
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_and_listeners_do_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n\
            \x20  1: 0B0200C0:1F91 0A6433C6:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2\n\
            not a line of it\n";
        assert_eq!(parse(table), [0x1f91]);
        assert!(parse("").is_empty());
    }

    #[test]
    fn an_open_connection_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!ports().contains(&address.port()));
        let _client = std::net::TcpStream::connect(address).unwrap();
        assert!(ports().contains(&address.port()));
    }
}
