//! What the nodes of one cluster share: everything is derived from one secret.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// `[cluster]`: the same on every node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Keeps two clusters apart that were given the same secret.
    pub name: String,
    /// Without it the cluster's keys are public knowledge: fit for a single node or a lab.
    pub secret: Secret,
    /// Where the secret is read from, once; blanks and line ends around it do not count.
    pub secret_file: Option<PathBuf>,
}

/// A secret that does not show up in a log.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// Keys of the cluster, each for one purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Carried by every Geneve packet: keeps strays out.
    pub cookie: u64,
    /// Seeds flow hash and rendezvous scores, so that a stranger cannot aim flows at one slot.
    pub seed: u64,
    /// Authenticates heartbeats.
    pub mac: [u8; 32],
    /// Keys the tags of members, pools and nodes.
    pub identity: [u8; 32],
    /// Private key (Ed25519) of the authority that vouches for nodes which relay connections to each other.
    pub relay: [u8; 32],
}

impl ClusterConfig {
    /// Takes the secret from its file, where one is named. The error says why it cannot be had.
    pub(super) fn read_secret(&mut self) -> Result<(), String> {
        let Some(path) = &self.secret_file else {
            return Ok(());
        };
        let told = |reason: &str| Err(format!("cluster.secret_file: {} {reason}", path.display()));
        if !self.secret.is_empty() {
            return told("is named beside cluster.secret: which of the two?");
        }
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => told("is empty"),
            Ok(text) => {
                self.secret = Secret(text.trim().to_owned());
                Ok(())
            }
            Err(error) => told(&format!("cannot be read: {error}")),
        }
    }

    pub fn keys(&self) -> Cluster {
        let mut material = Vec::with_capacity(self.name.len() + self.secret.0.len() + 8);
        material.extend((self.name.len() as u64).to_le_bytes());
        material.extend(self.name.as_bytes());
        material.extend(self.secret.0.as_bytes());
        let number = |purpose| {
            let [a, b, c, d, e, f, g, h, ..] = blake3::derive_key(purpose, &material);
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        };
        Cluster {
            cookie: number("portico 2026 geneve cookie"),
            seed: number("portico 2026 placement seed"),
            mac: blake3::derive_key("portico 2026 heartbeat mac", &material),
            identity: blake3::derive_key("portico 2026 identity", &material),
            relay: blake3::derive_key("portico 2026 relay authority", &material),
        }
    }
}

impl Secret {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "***" })
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(name: &str, secret: &str) -> Cluster {
        ClusterConfig {
            name: name.into(),
            secret: secret.into(),
            secret_file: None,
        }
        .keys()
    }

    #[test]
    fn every_node_derives_the_same_keys_from_the_same_secret() {
        assert_eq!(keys("a", "s"), keys("a", "s"));
        assert_ne!(keys("a", "s").cookie, keys("a", "t").cookie);
    }

    #[test]
    fn a_name_and_a_secret_do_not_run_into_each_other() {
        assert_ne!(keys("ab", "c").mac, keys("a", "bc").mac);
    }

    #[test]
    fn keys_of_different_purposes_differ() {
        let keys = keys("", "");
        assert_ne!(keys.cookie, keys.seed);
        assert_ne!(keys.mac, keys.identity);
        assert_ne!(keys.identity, keys.relay);
    }

    #[test]
    fn a_secret_is_read_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let read = |secret: &str| {
            let mut config = ClusterConfig {
                secret: secret.into(),
                secret_file: Some(file.clone()),
                ..ClusterConfig::default()
            };
            config.read_secret().map(|()| config.keys())
        };
        assert!(read("").err().unwrap().contains("cannot be read: No such file"));
        std::fs::write(&file, " \n").unwrap();
        assert!(read("").err().unwrap().ends_with("is empty"));
        std::fs::write(&file, "s\n").unwrap();
        assert_eq!(read("").unwrap(), keys("", "s"));
        assert!(read("t").err().unwrap().contains("which of the two"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", Secret::from("hush")).contains("hush"));
    }
}
