//! The desired state and the pictures made of it.

mod agreed;
pub mod compose;
pub mod desired;
pub mod diff;
pub mod identity;
pub mod marks;
pub mod merge;
pub mod pools;
pub mod proxy;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
pub mod validate;
pub mod vips;
pub mod warming;
pub mod writer;

pub use agreed::Agreed;
pub use compose::Past;
pub use desired::{Desired, DesiredBackend, DesiredNode, DesiredService, Readiness, Stamps};
pub use diff::{Change, Diff};
pub use identity::Identity;
pub use marks::{DrainMark, DrainObject, Drains};
pub use proxy::{Algorithm, Need, Plane, ProxyRules, ProxyVersion};
pub use snapshot::{
    Affinity, Attachment, Backend, Endpoint, Exposed, Family, Frontend, HealthCheck, Member, Naming, Node,
    Pool, Probe, Protocol, Service, Shape, Snapshot, Standing, is_served,
};
pub use writer::{View, Writer};
