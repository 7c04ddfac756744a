//! Query names: their text, and what they may mean.

mod grammar;
mod special;

pub(crate) use grammar::{Grammar, Place, Service, below, readings, service_of};
pub(crate) use special::{Special, is_private, local_reverse, special};

use std::str;

use hickory_server::proto::rr::Name;

/// A query name as text to compare and look up: lower-case, no trailing dot, on the stack.
///
/// A byte that no host or service name contains becomes `?`, so that a dot inside a label is not taken for the end of it
/// and what is looked up is always ASCII.
pub(crate) struct Text {
    bytes: [u8; Name::MAX_LENGTH],
    length: usize,
}

impl Text {
    pub(crate) fn new(name: &Name) -> Self {
        let mut text = Self {
            bytes: [0; Name::MAX_LENGTH],
            length: 0,
        };
        for label in name.iter() {
            if text.length > 0 {
                text.push(b'.');
            }
            for byte in label {
                text.push(match byte {
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => *byte,
                    b'A'..=b'Z' => byte.to_ascii_lowercase(),
                    _ => b'?',
                });
            }
        }
        text
    }

    fn push(&mut self, byte: u8) {
        // A decoded name is never longer than the array; one that was composed might be.
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only ASCII was pushed.
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded() {
        let name = Name::from_ascii("WeB.Portico.INTERNAL.").unwrap();
        assert_eq!(Text::new(&name).as_str(), "web.portico.internal");
    }

    #[test]
    fn a_dot_within_a_label_is_not_a_border() {
        let name = Name::from_labels([b"web.portico".as_slice(), b"internal"]).unwrap();
        assert_eq!(Text::new(&name).as_str(), "web?portico.internal");
    }

    #[test]
    fn the_root_is_empty() {
        assert_eq!(Text::new(&Name::root()).as_str(), "");
    }
}
