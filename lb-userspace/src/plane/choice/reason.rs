//! Why a plane serves a frontend, in words.

use std::fmt;
use std::sync::Arc;

use super::Choice;
use crate::model::{Family, Need, Plane};

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing asks for the proxy.
    Usual,
    /// The node's mode is to proxy.
    Node,
    /// The service's `plane`.
    Service(Plane),
    /// Something that only the proxy does.
    Need(Need),
    /// No task has an address of this family, the client's.
    Family(Family),
    /// There is no eBPF plane on this node, for this reason.
    Unavailable(Arc<str>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str("eBPF does all that is asked for"),
            Self::Node => f.write_str("this node has mode = \"proxy\""),
            Self::Service(plane) => write!(f, "the service has plane: {}", plane.label()),
            Self::Need(need) => write!(f, "{need}, which only the proxy does"),
            Self::Family(family) => {
                let family = match family {
                    Family::V4 => "IPv4",
                    Family::V6 => "IPv6",
                };
                write!(f, "no task has an {family} address")
            }
            Self::Unavailable(why) => write!(f, "eBPF is not available: {why}"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plane, why) = (&self.plane, self.why());
        match plane {
            Some(plane) => write!(f, "{}: {why}", plane.label()),
            None => write!(f, "nothing: eBPF alone may serve it, but {why}"),
        }
    }
}
