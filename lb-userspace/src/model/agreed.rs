//! What all agents of a cluster must agree on before they can come to the same picture.

use ipnet::IpNet;

use super::Identity;

/// The same on every node.
#[derive(Clone)]
pub struct Agreed {
    pub identity: Identity,
    /// Networks from which services get VIPs, in the order in which they are used.
    pub pools: Vec<IpNet>,
}

impl From<Identity> for Agreed {
    /// Without VIPs but those that services bring.
    fn from(identity: Identity) -> Self {
        Self {
            identity,
            pools: Vec::new(),
        }
    }
}
