//! Questions to a task's own kernel: which socket would take this segment?

use aya_ebpf::bindings::{
    bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp};
use lb_common::key::RevKey;
use lb_common::{V4, V6};

use super::skb::Skb;
use crate::parse::{Family, Four, Six};

/// TCP states of the kernel (`include/net/tcp_states.h`).
pub const ESTABLISHED: u32 = 1;
pub const TIME_WAIT: u32 = 6;
pub const LISTEN: u32 = 10;

/// Lookups in another namespace, by family.
pub trait Lookup: Family {
    /// State of the socket that segments from `key.client` to `key.task` would meet in `namespace`; 0 where there is
    /// none, the listener's where no connection matches exactly.
    fn state(skb: Skb, key: &RevKey<Self::Address>, namespace: i32) -> u32;
}

/// The verifier accepts no unaligned word on the stack, and the kernel's own type is aligned to 4.
#[repr(C, align(8))]
struct Tuple(bpf_sock_tuple);

#[inline(always)]
fn look(skb: Skb, tuple: bpf_sock_tuple__bindgen_ty_1, size: usize, namespace: i32) -> u32 {
    let mut tuple = Tuple(bpf_sock_tuple {
        __bindgen_anon_1: tuple,
    });
    // SAFETY: the tuple lives on the stack and `size` is that of the member in use; a socket returned is released.
    unsafe {
        let socket = bpf_skc_lookup_tcp(
            skb.raw().cast(),
            &mut tuple.0,
            size as u32,
            namespace as i64 as u64,
            0,
        );
        if socket.is_null() {
            return 0;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state
    }
}

impl Lookup for Four {
    #[inline(always)]
    fn state(skb: Skb, key: &RevKey<V4>, namespace: i32) -> u32 {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: u32::from_ne_bytes(key.client),
            daddr: u32::from_ne_bytes(key.task),
            sport: u16::from_ne_bytes(key.client_port),
            dport: u16::from_ne_bytes(key.task_port),
        };
        look(
            skb,
            bpf_sock_tuple__bindgen_ty_1 { ipv4 },
            size_of_val(&ipv4),
            namespace,
        )
    }
}

impl Lookup for Six {
    #[inline(always)]
    fn state(skb: Skb, key: &RevKey<V6>, namespace: i32) -> u32 {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            // SAFETY: sixteen bytes either way.
            saddr: unsafe { core::mem::transmute::<V6, [u32; 4]>(key.client) },
            // SAFETY: as above.
            daddr: unsafe { core::mem::transmute::<V6, [u32; 4]>(key.task) },
            sport: u16::from_ne_bytes(key.client_port),
            dport: u16::from_ne_bytes(key.task_port),
        };
        look(
            skb,
            bpf_sock_tuple__bindgen_ty_1 { ipv6 },
            size_of_val(&ipv6),
            namespace,
        )
    }
}
