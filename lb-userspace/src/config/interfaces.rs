//! Which devices are uplinks: a list chooses exactly, a table only adjusts.
//!
//! ```toml
//! interfaces = ["eth0", { name = "eth1", xdp = "off" }]   # these and no others
//! ```
//! ```toml
//! [interfaces.eth0]                                       # those with a default route, and eth0
//! xdp = "off"
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The devices clients arrive at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// Devices that carry a default route are uplinks too.
    pub default_routes: bool,
    /// Devices named in the file.
    pub named: Vec<Interface>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub xdp: XdpMode,
}

/// Whether and how an XDP program is attached to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native on devices that gain by it, else tc alone; `status` says which and why.
    #[default]
    Auto,
    Native,
    Generic,
    /// tc alone.
    Off,
}

impl Interfaces {
    /// What the file says about this device; `Auto` where it says nothing.
    pub fn xdp(&self, name: &str) -> XdpMode {
        self.named
            .iter()
            .find(|interface| interface.name == name)
            .map_or(XdpMode::Auto, |interface| interface.xdp)
    }
}

impl Default for Interfaces {
    fn default() -> Self {
        Self {
            default_routes: true,
            named: Vec::new(),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    xdp: XdpMode,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    name: String,
    #[serde(default)]
    xdp: XdpMode,
}

/// Linux device names: 1 to 15 bytes, no slash, no white space.
fn device<E: de::Error>(name: String) -> Result<String, E> {
    let fits = (1..=15).contains(&name.len()) && !name.contains(|c: char| c == '/' || c.is_whitespace());
    if fits {
        Ok(name)
    } else {
        Err(E::custom(format_args!("{name:?} cannot be the name of a device")))
    }
}

/// Written by hand rather than as an untagged enum, which would lose line numbers.
impl<'de> Deserialize<'de> for Interfaces {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ListOrTable;

        impl<'de> Visitor<'de> for ListOrTable {
            type Value = Interfaces;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of devices or a table of them")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Interfaces, A::Error> {
                let mut named: Vec<Interface> = Vec::new();
                while let Some(interface) = list.next_element::<Interface>()? {
                    if named.iter().any(|known| known.name == interface.name) {
                        return Err(de::Error::custom(format_args!(
                            "device {:?} is listed twice",
                            interface.name
                        )));
                    }
                    named.push(interface);
                }
                // An empty list chooses nothing, which nobody wants: it means the default.
                Ok(Interfaces {
                    default_routes: named.is_empty(),
                    named,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Interfaces, A::Error> {
                let mut named = BTreeMap::new();
                while let Some((name, Options { xdp })) = table.next_entry::<String, Options>()? {
                    named.insert(device(name)?, xdp);
                }
                let named = named
                    .into_iter()
                    .map(|(name, xdp)| Interface { name, xdp })
                    .collect();
                Ok(Interfaces {
                    default_routes: true,
                    named,
                })
            }
        }

        input.deserialize_any(ListOrTable)
    }
}

impl<'de> Deserialize<'de> for Interface {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct NameOrFull;

        impl<'de> Visitor<'de> for NameOrFull {
            type Value = Interface;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a device, or { name, xdp }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Interface, E> {
                Ok(Interface {
                    name: device(name.to_owned())?,
                    xdp: XdpMode::Auto,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Interface, A::Error> {
                let Full { name, xdp } = Full::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Interface {
                    name: device(name)?,
                    xdp,
                })
            }
        }

        input.deserialize_any(NameOrFull)
    }
}
