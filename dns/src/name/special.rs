//! Names that no upstream shall be asked for, whoever asks.
//!
//! The registry of special-use names (RFC 6761) says what a caching server does with each. An upstream configured for
//! one of these domains, as some sites use `.local` and `.test`, comes before this table.
//!
//! `home.arpa` (RFC 8375) and `internal` are left to the upstreams: the site's own resolver may well know them.

use std::net::IpAddr;

use super::grammar::below;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// RFC 6761 §6.3: the loopback addresses.
    Localhost,
    /// There is nothing, by definition.
    Nothing { zone: &'static str },
    /// The name exists and has nothing that we could say (RFC 9462 §8: no designated resolver here).
    Empty { zone: &'static str },
}

pub(crate) fn special(name: &str) -> Option<Special> {
    let within = |zone| name == zone || below(name, zone).is_some();
    if within("localhost") {
        return Some(Special::Localhost);
    }
    if within("resolver.arpa") {
        return Some(Special::Empty {
            zone: "resolver.arpa",
        });
    }
    // RFC 6761 §6.2 and §6.4, RFC 6762 §22.1, RFC 7686 §2, RFC 9476 §3.
    ["test", "invalid", "local", "onion", "alt"]
        .into_iter()
        .find(|zone| within(zone))
        .map(|zone| Special::Nothing { zone })
}

/// Addresses that mean something only on the machine or the link that uses them: no server elsewhere has names for them
/// (RFC 6303 §4.2, §4.3, §4.5). Private addresses are not among them, a site's resolver often knows those.
pub(crate) fn local_reverse(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local(),
    }
}

/// Addresses that sites give out themselves (RFC 1918, RFC 6598, RFC 4193), as networks of containers do.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_names() {
        assert_eq!(special("localhost"), Some(Special::Localhost));
        assert_eq!(special("web.localhost"), Some(Special::Localhost));
        assert_eq!(special("printer.local"), Some(Special::Nothing { zone: "local" }));
        for ordinary in ["example.com", "local.example", "mylocalhost", "home.arpa", ""] {
            assert_eq!(special(ordinary), None, "{ordinary}");
        }
    }
}
