//! What agents take from each other, and how long they wait.

use std::time::Duration;

/// Largest update, before TLS: a picture of 100,000 backends has about 16 MB.
pub const UPDATE: usize = 64 << 20;
/// Largest request.
pub const REQUEST: usize = 4096;
/// Largest block of headers.
pub const HEADERS: u32 = 8192;
/// What a follower has not read yet, for the stream and for the connection: beyond it, updates are merged.
pub const WINDOW: u32 = 256 << 10;
/// Requests at a time on one connection; one is enough.
pub const STREAMS: u32 = 4;
/// Connections at a time: more than a swarm has nodes.
pub const CONNECTIONS: usize = 4096;
/// Of them, those of one node: one is enough, and one that was cut off may come again before the old one is missed.
pub const LINKS: usize = 4;
/// Time of a follower for TCP and TLS, each. Managers give it [`crate::door::HANDSHAKE`].
pub const HANDSHAKE: Duration = Duration::from_secs(2);
/// Silence after which the other side is asked whether it is there, and how long its answer may take: what vanishes is
/// missed after 4 s.
pub const KEEPALIVE: Duration = Duration::from_secs(2);
/// For the first update, which may be all of it on a slow line.
pub const FIRST: Duration = Duration::from_secs(15);
