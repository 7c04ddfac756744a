//! What the `trace` program tells about one packet: the way it went through the decisions.
//!
//! `portico trace` writes a blank [`Trace`] into the one entry of the map `TRACE`, runs the program on the packet
//! (BPF_PROG_TEST_RUN) and reads the entry. The program takes the decisions of `uplink` and changes nothing else.

use crate::Plain;

/// Steps that one packet can take at most; later ones are counted in [`Trace::len`] but not kept.
pub const STEPS: usize = 16;

/// Value of `TRACE`, one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Tag of the member chosen, 0 while there is none.
    pub member: u64,
    /// The pool's number, [`NOTHING`] where there is none.
    pub pool: u32,
    /// Slot of the flow in it.
    pub slot: u32,
    /// The end it met, a [`Verdict`](crate::Verdict)'s number; [`NOTHING`] until the program has run.
    pub verdict: u32,
    /// Device it leaves by, 0 where that is left to the kernel.
    pub ifindex: u32,
    /// Tag of the node it goes to, 0 where it stays.
    pub node: u16,
    /// Steps taken.
    pub len: u16,
    pub pad: u32,
    pub steps: [Taken; STEPS],
}

/// No pool, no verdict.
pub const NOTHING: u32 = u32::MAX;

impl Trace {
    pub const BLANK: Self = Self {
        member: 0,
        pool: NOTHING,
        slot: 0,
        verdict: NOTHING,
        ifindex: 0,
        node: 0,
        len: 0,
        pad: 0,
        steps: [Taken {
            step: NOTHING,
            value: 0,
        }; STEPS],
    };
}

/// One step that a packet took.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Number of a [`Step`].
    pub step: u32,
    /// What the step's words say of it.
    pub value: u32,
}

macro_rules! steps {
    ($($name:ident = $label:literal, $words:literal;)*) => {
        /// The decisions on a packet's way. The discriminant is [`Taken::step`].
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $(#[doc = $words] $name,)*
        }

        impl Step {
            pub const ALL: &[Step] = &[$(Step::$name,)*];

            /// Name in JSON.
            pub const fn label(self) -> &'static str {
                match self { $(Step::$name => $label,)* }
            }

            /// One clause for people; `{}` stands for the step's value.
            pub const fn words(self) -> &'static str {
                match self { $(Step::$name => $words,)* }
            }
        }
    };
}

steps! {
    Front = "front", "is for a frontend: pool {}";
    Inside = "inside", "is for an address that answers inside the cluster only: from outside it is dropped";
    NoFront = "no_front", "is for no frontend";
    Syn = "syn", "opens a connection";
    Slot = "slot", "falls into slot {}";
    Head = "head", "the slot's head is member {} of the pool";
    Fresh = "fresh", "a node is suspected: the slot's head for new connections is member {} of the pool";
    NoHead = "no_head", "the slot has no member";
    Hinted = "hinted", "a hint says the flow is on node {}";
    Stays = "stays", "goes where the flow's datagrams went before";
    HostSocket = "host_socket", "the node itself has a socket for it";
    Proxied = "proxied", "what is new here goes to this node's proxy";
    Here = "here", "this node owns it";
    FlowHit = "flow_hit", "the flow is known here, established (state bits {})";
    HalfHit = "half_hit", "the flow is known here, half open";
    FlowMiss = "flow_miss", "the flow is not known here";
    Stale = "stale", "its entry belongs to a member that is gone: as if absent";
    Acknowledges = "acknowledges", "acknowledges the task's answer: now established";
    Chase = "chase", "asks node {}, the next of those that can hold the flow";
    ChaseEnd = "chase_end", "nobody left to ask";
    Listening = "listening", "the task listens on its port";
    Deaf = "deaf", "the task does not listen on its port";
    Draining = "draining", "the member is draining";
    NotHooked = "not_hooked", "the task's device has not been found";
    RunnerUp = "runner_up", "the slot's runner-up is member {} of the pool";
    Create = "create", "a new entry is made; the task sees the client's port as {}";
    NoNode = "no_node", "node {} is not known or has no route";
    FromPeer = "from_peer", "came through the tunnel from node {}";
    Reply = "reply", "is a reply to the client";
    Mss = "mss", "its MSS is lowered to {}";
    TooBig = "too_big", "is larger than the {} bytes that fit";
    Delivered = "delivered", "goes to the task's device {}";
    Sent = "sent", "goes to node {} in Geneve";
}

impl Step {
    /// The step of a number; `None` where another version of the program wrote it.
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

macro_rules! plain {
    ($($type:ty = $size:literal),*) => {$(
        // SAFETY: repr(C) with explicit padding, as the size shows; integers only.
        unsafe impl Plain for $type {}
        const _: () = assert!(size_of::<$type>() == $size);
    )*};
}

plain! { Taken = 8, Trace = 160 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_again_by_its_number() {
        for step in Step::ALL {
            assert_eq!(Step::of(*step as u32), Some(*step));
        }
        assert_eq!(Step::of(NOTHING), None);
    }
}
