//! Networks: those that VIPs are taken from, and those in which tasks are reachable as they are.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, de::Error};

/// `[vip]`: addresses for services that bring none. The same on every node.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vip {
    /// In the order in which they are used; an empty list gives no service an address.
    #[serde(deserialize_with = "pools")]
    pub pool: Vec<IpNet>,
}

/// `[networks]`: what the agent cannot see of the networks that tasks are on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Networks {
    /// Networks in which every task is reachable under its address from every node and task.
    #[serde(deserialize_with = "flat")]
    pub flat: Vec<IpNet>,
}

impl Default for Vip {
    fn default() -> Self {
        Self {
            pool: vec![
                Ipv4Net::new_assert([10, 254, 0, 0].into(), 16).into(),
                Ipv6Net::new_assert([0xfdfe, 0x706f, 0x7274, 0, 0, 0, 0, 0].into(), 112).into(),
            ],
        }
    }
}

impl Networks {
    /// Whether a task with this address is reachable under it from everywhere.
    pub fn is_flat(&self, address: std::net::IpAddr) -> bool {
        self.flat.iter().any(|net| net.contains(&address))
    }
}

fn pools<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<IpNet>, D::Error> {
    let pools = networks(input)?;
    for (number, pool) in pools.iter().enumerate() {
        let (sizes, family) = match pool {
            IpNet::V4(_) => (8..=28, "IPv4"),
            IpNet::V6(_) => (64..=124, "IPv6"),
        };
        if !sizes.contains(&pool.prefix_len()) {
            let (first, last) = sizes.into_inner();
            return Err(D::Error::custom(format_args!(
                "{pool} is not a pool: {family} pools are /{first} to /{last}"
            )));
        }
        if let Some(why) = unusable(pool) {
            return Err(D::Error::custom(format_args!("{pool} is not a pool: {why}")));
        }
        if let Some(other) = pools[..number].iter().find(|other| overlap(other, pool)) {
            return Err(D::Error::custom(format_args!("pools {other} and {pool} overlap")));
        }
    }
    Ok(pools)
}

/// What is written behind the prefix is likely a mistake about its length.
fn networks<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<IpNet>::deserialize(input)?;
    match networks.iter().find(|net| net.trunc() != **net) {
        Some(net) => Err(D::Error::custom(format_args!(
            "{net} is not a network: it begins at {}",
            net.trunc()
        ))),
        None => Ok(networks),
    }
}

/// No more than the programs' table holds.
fn flat<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<IpNet>, D::Error> {
    const MOST: usize = 1024;
    let networks = networks(input)?;
    if networks.len() > MOST {
        return Err(D::Error::custom(format_args!(
            "{} networks are more than the {MOST} there is room for",
            networks.len()
        )));
    }
    Ok(networks)
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Why no machine sends to these addresses by way of a route.
fn unusable(pool: &IpNet) -> Option<&'static str> {
    const TAKEN: [(&str, &str); 8] = [
        ("0.0.0.0/8", "these are no addresses of machines"),
        ("127.0.0.0/8", "these are loopback addresses"),
        ("169.254.0.0/16", "these are link-local"),
        ("224.0.0.0/4", "these are multicast addresses"),
        ("240.0.0.0/4", "no machine takes these addresses for real"),
        ("::/8", "these have meanings of their own"),
        ("fe80::/10", "these are link-local"),
        ("ff00::/8", "these are multicast addresses"),
    ];
    let taken = TAKEN
        .iter()
        .find(|(net, _)| net.parse::<IpNet>().is_ok_and(|net| overlap(&net, pool)));
    taken.map(|(_, why)| *why)
}
