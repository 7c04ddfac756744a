//! `address: IP` or `address: [IPv4, IPv6]`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// One address or several, as written.
#[derive(Debug)]
pub struct Addresses(pub Vec<Written>);

/// An address in a list has a place of its own; a single one has its backend's.
#[derive(Debug)]
pub enum Written {
    Single(String),
    Listed(Spanned<String>),
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an address, or a list of one IPv4 and one IPv6 address")
            }

            fn visit_str<E>(self, address: &str) -> Result<Addresses, E> {
                Ok(Addresses(vec![Written::Single(address.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(Written::Listed(address));
                }
                Ok(Addresses(addresses))
            }
        }

        input.deserialize_any(OneOrMore)
    }
}
