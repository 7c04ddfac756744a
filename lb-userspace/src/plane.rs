//! What carries a snapshot out: today the eBPF plane.
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
pub mod proxy;
mod report;

pub use ebpf::EbpfPlane;
pub use error::EbpfError;
pub use report::{
    CounterReport, Difference, FlowReport, InterfaceReport, PlaneReport, Portico0Report, Problem, Question,
    SocketReport, TraceReport, TraceStep, XdpAttachment,
};
