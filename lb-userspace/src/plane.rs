//! What carries a snapshot out: the packet programs, or the proxy's sockets where these cannot serve.
//!
//! A plane keeps no truth of its own: it applies each snapshot by difference, says which one it has applied, and can be
//! rebuilt from the snapshot alone.

pub mod choice;
pub mod collision;
#[cfg(feature = "ebpf")]
pub mod ebpf;
#[cfg(not(feature = "ebpf"))]
#[path = "plane/absent.rs"]
pub mod ebpf;
mod error;
pub mod former;
pub mod netlink;
pub mod proxy;
mod report;

pub use ebpf::EbpfPlane;
pub use error::EbpfError;
pub use proxy::ProxyPlane;
pub use report::{
    CounterReport, Difference, FlowReport, InterfaceReport, PlaneReport, Portico0Report, Problem, Question,
    SocketReport, TraceReport, TraceStep, XdpAttachment,
};

use rtnetlink::packet_route::route::RouteProtocol;

/// By this the agent knows its own routes again.
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(0x70);
