//! Which member a slot belongs to, and who else can hold its flows: rendezvous scores, head and chain.
//!
//! Everything here is a pure function of one node's view of a pool, in integers only, so that nodes with the same view
//! take the same decision and nodes with different views differ only where the views do. The rules and their reasons
//! are in `docs/flow-placement.md`.

mod chain;
mod evenness;
mod head;
mod score;

pub use chain::{chain, fill_chains, put_last};
pub use evenness::{MILLIONTHS, evenness_bound, standard_deviation};
pub use head::{fill_heads, fill_runners_up, head, runner_up, update_heads};
pub use score::score;

/// Where a member stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Learned less than W ago: every node shall know it before it gets slots.
    Warming,
    Active,
    /// Takes no new slots, keeps its connections.
    Draining,
}

/// What placement needs to know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The task instance and target port, never its address.
    pub tag: u64,
    /// Tag of the node that runs it.
    pub node: u16,
    /// 1 to 256.
    pub weight: u16,
    /// Highest weight so far, at least `weight`.
    pub peak: u16,
    pub state: State,
    /// First activation, in the source's own order; 0 where unknown.
    pub first: u64,
    /// Latest activation or weight change; `u64::MAX` where unknown.
    pub last: u64,
    /// As `first` and `last`, in the order in which this node's own agent learned of it: decides who is asked sooner, and
    /// never who is left out. 0 and `u64::MAX` where unknown.
    pub seen_first: u64,
    pub seen_last: u64,
}
