//! The single list of what can become of a packet: kernel counters, metrics, `trace` and docs are derived from it.

/// What kind of end a packet met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Left to the kernel's own stack.
    Passed,
    /// Sent on its way by a program.
    Forwarded,
    /// Answered by a program: a reset or an ICMP error.
    Answered,
    Dropped,
}

macro_rules! verdicts {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $outcome:ident, $words:literal;)*) => {
        /// What a program decided about one packet. The discriminant is the index into `COUNTER`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Verdict {
            $(#[doc = $words] $name,)*
        }

        impl Verdict {
            /// Every verdict, in the order of the counters.
            pub const ALL: &[Verdict] = &[$(Verdict::$name,)*];

            /// Name in metrics and JSON.
            pub const fn label(self) -> &'static str {
                match self { $(Verdict::$name => $label,)* }
            }

            /// One sentence for people.
            pub const fn words(self) -> &'static str {
                match self { $(Verdict::$name => $words,)* }
            }

            pub const fn outcome(self) -> Outcome {
                match self { $(Verdict::$name => Outcome::$outcome,)* }
            }
        }
    };
}

verdicts! {
    NotOurs = "not_ours", Passed, "no frontend and no peer: left to the node's own stack";
    HostSocket = "host_socket", Passed, "belongs to a connection of the node itself";
    Proxied = "proxied", Passed, "new, and for a frontend or a task that this node's proxy serves: left to its sockets";
    DeliveredToHost = "delivered_to_host", Passed, "handed to a task in the node's own network namespace, by way of the node's stack";
    RepliedByHost = "replied_by_host", Passed, "the reply of such a task: on its way out as it was, with the frontend's address";
    HandedToTc = "handed_to_tc", Passed, "the XDP program leaves it to the tc program, which can finish it";

    Delivered = "delivered", Forwarded, "handed to a task on this node";
    Relayed = "relayed", Forwarded, "sent inside Geneve to the node that owns the flow";
    Chased = "chased", Forwarded, "unknown here: sent along the chain of nodes that can hold the flow";
    Moved = "moved", Forwarded, "a new connection whose task cannot take it: sent to the runner-up's node";
    Replied = "replied", Forwarded, "a task's reply, sent straight to the client";
    ReplyRelayed = "reply_relayed", Forwarded, "a task's reply, sent inside Geneve to the node the client came by";
    ReplyForwarded = "reply_forwarded", Forwarded, "a reply from another node's task, sent on to the client";

    Reset = "reset", Answered, "nobody has this connection: answered with a reset";
    TooBig = "too_big", Answered, "too large for the way: the sender was told the size that fits";

    Truncated = "truncated", Dropped, "shorter than its headers say";
    BadHeader = "bad_header", Dropped, "a header length or field that cannot be";
    TtlExpired = "ttl_expired", Dropped, "its time to live has run out";
    UnknownPeer = "unknown_peer", Dropped, "Geneve from an address that is no node of the cluster";
    WrongCookie = "wrong_cookie", Dropped, "Geneve without this cluster's cookie";
    BadGeneve = "bad_geneve", Dropped, "Geneve with a header or an option that is not ours";
    NotHere = "not_here", Dropped, "Geneve for a frontend or a backend that is not here";
    ForgedReply = "forged_reply", Dropped, "a relayed reply that comes from no frontend";
    Inside = "inside", Dropped, "from outside, for an address that answers inside the cluster only";
    NoMember = "no_member", Dropped, "the service has no backend (for ten seconds, then it is answered with a reset)";
    NoNode = "no_node", Dropped, "the owner's node is not known or has no route";
    NotListening = "not_listening", Dropped, "a moved connection, and this task cannot take it either";
    Unknown = "unknown", Dropped, "an ICMP error, a reset or a late answer about a flow that nobody has";
    StaleView = "stale_view", Dropped, "nobody here has this connection, but without an agent for five seconds this node cannot tell";
    FlowTableFull = "flow_table_full", Dropped, "the table of established flows is full";
    NoPort = "no_port", Dropped, "no address or free port under which the task could see this client";
    ChaseLimit = "chase_limit", Dropped, "more unknown packets than are chased each second";
    ResetLimit = "reset_limit", Dropped, "more unknown packets than are answered each second";
    Failed = "failed", Dropped, "the kernel refused to change or send the packet";
}

impl Verdict {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_indices_follow_the_list() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
            assert!(
                Verdict::ALL[index + 1..]
                    .iter()
                    .all(|v| v.label() != verdict.label())
            );
        }
    }
}
