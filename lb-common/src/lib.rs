//! What the kernel programs, the agent and the tools share: one decision, taken by one function, wherever it is taken.
//!
//! No allocation, no dependency, no I/O. Map keys and values are plain structures with explicit padding whose sizes
//! are asserted; addresses and ports are byte arrays in network order, every other integer is the machine's own.
//! The rules are in `docs/flow-placement.md`.
#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod checksum;
pub mod geneve;
pub mod handshake;
pub mod hash;
pub mod host;
pub mod key;
pub mod placement;
pub mod probe;
pub mod socket;
pub mod table;
pub mod tick;
pub mod trace;
pub mod verdict;

pub use address::{Address, V4, V6};
pub use verdict::Verdict;

/// Types that may be copied to and from kernel maps byte for byte.
///
/// # Safety
/// The type is `#[repr(C)]`, has no padding that the compiler adds, and every bit pattern is a valid value.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: integers and byte arrays have no padding and no invalid bit patterns.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
