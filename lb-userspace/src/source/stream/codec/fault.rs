//! What is wrong with a message.

use std::fmt;

/// One is enough: nothing is taken of a message that has any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{problem}")]
pub struct Fault {
    pub place: Place,
    pub problem: Problem,
}

/// From the outside in: `service web: backend web.1: `; empty where it is the message as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the bytes are damaged: {0}")]
    Bytes(prost::DecodeError),
    #[error("an address of {0} bytes: IPv4 has 4, IPv6 has 16")]
    Address(usize),
    #[error("an address of {0} bytes where only IPv4 with its 4 is possible")]
    NotIpv4(usize),
    #[error("a range of {bits} bits, where its addresses have {most}")]
    Range { bits: u32, most: u8 },
    #[error("{what} {value} is more than {most}")]
    Number {
        what: &'static str,
        value: u32,
        most: u32,
    },
    #[error("{what} is {value}, which this version does not know")]
    Value { what: &'static str, value: i32 },
    #[error("is there twice")]
    Twice,
    #[error("its backends have changed, but the service is not known")]
    UnknownService,
}

impl Fault {
    pub(in crate::source::stream) fn bytes(error: prost::DecodeError) -> Self {
        Problem::Bytes(error).into()
    }

    /// The fault as part of something greater.
    pub(in crate::source::stream) fn within(mut self, kind: &str, name: &str) -> Self {
        // Names come from the message: whatever is in them shall not write the log.
        self.place.0 = format!("{kind} {}: {}", name.escape_debug(), self.place.0);
        self
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self {
            place: Place::default(),
            problem,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
