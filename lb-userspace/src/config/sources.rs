//! Where the desired state comes from.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Used where nothing else is configured, and wherever it is there.
const SERVICES: &str = "/etc/portico/services.yaml";
/// Where engines listen, the more usual one first.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];

/// `[sources]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    pub file: FileSource,
    pub docker: DockerSource,
    pub swarm: SwarmSource,
}

/// `[sources.file]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSource {
    /// See [`Sources::file`].
    pub path: Option<PathBuf>,
}

/// `[sources.docker]`: the container engine of this node.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DockerSource {
    pub enabled: Enabled,
    /// See [`Sources::engine`].
    pub socket: Option<PathBuf>,
}

/// `[sources.swarm]`: the swarm that this engine is in.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwarmSource {
    /// By itself whatever swarm the engine is in is followed.
    pub enabled: Enabled,
    /// Directory of this node's certificates; by default where its engine keeps them.
    pub certificates: Option<PathBuf>,
}

/// `"auto"`, `true` or `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enabled {
    /// Where there is what it needs.
    #[default]
    Auto,
    Always,
    Never,
}

impl Sources {
    /// The services file to follow: the one that is configured, else the default one where it is there or nothing else is
    /// followed.
    pub fn file(&self) -> Option<PathBuf> {
        let default = || Path::new(SERVICES).exists() || self.engine().is_none();
        self.file
            .path
            .clone()
            .or_else(|| default().then(|| SERVICES.into()))
    }

    /// The socket of the engine to follow. By itself it is followed where one of the usual sockets is there by now; a socket that
    /// is configured is waited for.
    pub fn engine(&self) -> Option<PathBuf> {
        self.engine_among(&SOCKETS.map(Path::new))
    }

    fn engine_among(&self, usual: &[&Path]) -> Option<PathBuf> {
        let DockerSource { enabled, socket } = &self.docker;
        let there = || usual.iter().find(|socket| socket.exists());
        match (enabled, socket) {
            (Enabled::Never, _) => None,
            (_, Some(socket)) => Some(socket.clone()),
            (Enabled::Auto, None) => there().map(|socket| socket.to_path_buf()),
            (Enabled::Always, None) => there().or(usual.first()).map(|socket| socket.to_path_buf()),
        }
    }
}

impl<'de> Deserialize<'de> for Enabled {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Word;

        impl Visitor<'_> for Word {
            type Value = Enabled;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("\"auto\", true or false")
            }

            fn visit_bool<E>(self, enabled: bool) -> Result<Enabled, E> {
                Ok(if enabled { Enabled::Always } else { Enabled::Never })
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Enabled, E> {
                match word {
                    "auto" => Ok(Enabled::Auto),
                    other => Err(E::unknown_variant(other, &["auto", "true", "false"])),
                }
            }
        }

        input.deserialize_any(Word)
    }
}

/// An address that other machines can send to.
pub fn address<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Ipv4Addr>, D::Error> {
    let address = Ipv4Addr::deserialize(input)?;
    let own =
        address.is_loopback() || address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    match own {
        true => Err(de::Error::custom(format_args!(
            "{address} is no address under which other nodes reach this one"
        ))),
        false => Ok(Some(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn an_engine_is_followed_where_its_socket_is_there_and_a_configured_one_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (docker, podman) = (
            directory.path().join("docker.sock"),
            directory.path().join("podman.sock"),
        );
        let usual = [&*docker, &*podman];
        let engine = |text: &str| sources(text).engine_among(&usual);
        assert_eq!(engine(""), None);
        assert_eq!(engine("docker.enabled = true"), Some(docker.clone()));
        assert_eq!(engine("docker.socket = \"/x\""), Some("/x".into()));
        assert_eq!(engine("docker = { enabled = false, socket = \"/x\" }"), None);
        std::fs::write(&podman, "").unwrap();
        assert_eq!(engine("docker.enabled = \"auto\""), Some(podman.clone()));
        assert_eq!(engine("docker.enabled = true"), Some(podman.clone()));
        std::fs::write(&docker, "").unwrap();
        assert_eq!(engine(""), Some(docker));
    }

    #[test]
    fn a_services_file_that_is_configured_is_followed_whatever_else_is() {
        let both = sources("file.path = \"/x.yaml\"\ndocker.enabled = true");
        assert_eq!(both.file(), Some("/x.yaml".into()));
        let none = sources("docker.enabled = false");
        assert_eq!(none.file(), Some(SERVICES.into()));
    }

    #[test]
    fn a_value_that_is_none_of_the_three_names_them() {
        let error = toml::from_str::<Sources>("docker.enabled = \"ture\"").unwrap_err();
        assert!(
            error
                .message()
                .contains("unknown variant `ture`, expected one of `auto`, `true`, `false`"),
            "{error}"
        );
    }
}
