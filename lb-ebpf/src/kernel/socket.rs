//! Questions to a task's own kernel, and to the node's: which socket would take this packet?

use aya_ebpf::bindings::{
    bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{
    bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
};
use lb_common::key::RevKey;
use lb_common::table::namespace;
use lb_common::{V4, V6};

use super::skb::Skb;
use crate::parse::{Family, Four, Six};
use crate::wire::Tcp;

/// TCP states of the kernel (`include/net/tcp_states.h`).
pub const ESTABLISHED: u32 = 1;
pub const TIME_WAIT: u32 = 6;
pub const LISTEN: u32 = 10;
/// A handshake whose last segment has not come.
pub const NEW_SYN_RECV: u32 = 12;

/// Lookups in another namespace, by family.
pub trait Lookup: Family {
    /// State of the socket that segments from `key.client` to `key.task` would meet in `namespace`; 0 where there is
    /// none, the listener's where no connection matches exactly.
    #[inline(always)]
    fn state(skb: Skb, key: &RevKey<Self::Address>, namespace: i32) -> u32 {
        // SAFETY: the socket is held meanwhile.
        look(skb, Self::tuple(key), namespace, |socket| unsafe {
            (*socket).state
        })
    }

    /// Whether `segment`, which would come from `key.client` to `key.task`, completes a handshake that the task's kernel
    /// waits for: of a connection it has noted, or of one that it keeps in a cookie only (RFC 4987, section 3.6).
    #[inline(always)]
    fn awaits(skb: Skb, key: &RevKey<Self::Address>, namespace: i32, segment: &Tcp) -> bool {
        let waits = look(skb, Self::tuple(key), namespace, |socket| {
            // SAFETY: the socket is held meanwhile.
            match unsafe { (*socket).state } {
                NEW_SYN_RECV => 1,
                LISTEN => u32::from(Self::is_cookie(socket, key, segment)),
                _ => 0,
            }
        });
        waits != 0
    }

    /// Whether datagrams from `key.task` to `key.client` are those of a socket of this node that has connected to the task in
    /// the client's name.
    #[inline(always)]
    fn leads_here(skb: Skb, key: &RevKey<Self::Address>) -> bool {
        let answer = RevKey {
            task: key.client,
            client: key.task,
            task_port: key.client_port,
            client_port: key.task_port,
            protocol: key.protocol,
        };
        has_datagrams(skb, Self::tuple(&answer))
    }

    /// The kernel's question, and how much of it is used.
    fn tuple(key: &RevKey<Self::Address>) -> (bpf_sock_tuple__bindgen_ty_1, usize);

    /// Whether the segment acknowledges a cookie of this listener.
    fn is_cookie(listener: *mut bpf_sock, key: &RevKey<Self::Address>, segment: &Tcp) -> bool;
}

/// The verifier accepts no unaligned word on the stack, and the kernel's own types are aligned to less.
#[repr(C, align(8))]
pub struct Aligned<T>(pub T);

/// As the kernel's lookups take it, and how much of it is used.
#[inline(always)]
pub fn question<V: Lookup>(key: &RevKey<V::Address>) -> (Aligned<bpf_sock_tuple>, u32) {
    let (tuple, size) = V::tuple(key);
    let tuple = bpf_sock_tuple {
        __bindgen_anon_1: tuple,
    };
    (Aligned(tuple), size as u32)
}

#[inline(always)]
fn look(
    skb: Skb,
    (tuple, size): (bpf_sock_tuple__bindgen_ty_1, usize),
    namespace: i32,
    tell: impl FnOnce(*mut bpf_sock) -> u32,
) -> u32 {
    let mut tuple = Aligned(bpf_sock_tuple {
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
        let answer = tell(socket.cast());
        bpf_sk_release(socket.cast());
        answer
    }
}

/// Whether the node has a socket for datagrams that is connected with both ends; one that hears all who ask its port is none.
#[inline(always)]
fn has_datagrams(skb: Skb, (tuple, size): (bpf_sock_tuple__bindgen_ty_1, usize)) -> bool {
    let mut tuple = Aligned(bpf_sock_tuple {
        __bindgen_anon_1: tuple,
    });
    // SAFETY: the tuple lives on the stack and `size` is that of the member in use; a socket returned is released.
    unsafe {
        let socket = bpf_sk_lookup_udp(
            skb.raw().cast(),
            &mut tuple.0,
            size as u32,
            namespace::OWN as i64 as u64,
            0,
        );
        if socket.is_null() {
            return false;
        }
        let is_connected = (*socket).dst_port != 0;
        bpf_sk_release(socket.cast());
        is_connected
    }
}

/// Asks the kernel about headers that read as the task would see them; it looks at addresses, ports and numbers.
#[inline(always)]
fn is_cookie<const N: usize>(listener: *mut bpf_sock, header: &[u64; N], segment: &Tcp) -> bool {
    let segment = Aligned(*segment);
    // SAFETY: both headers are readable for the sizes given.
    0 == unsafe {
        bpf_tcp_check_syncookie(
            listener.cast(),
            header.as_ptr().cast_mut().cast(),
            size_of_val(header) as u32,
            (&raw const segment.0).cast_mut().cast(),
            size_of::<Tcp>() as u32,
        )
    }
}

impl Lookup for Four {
    #[inline(always)]
    fn tuple(key: &RevKey<V4>) -> (bpf_sock_tuple__bindgen_ty_1, usize) {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: u32::from_ne_bytes(key.client),
            daddr: u32::from_ne_bytes(key.task),
            sport: u16::from_ne_bytes(key.client_port),
            dport: u16::from_ne_bytes(key.task_port),
        };
        (bpf_sock_tuple__bindgen_ty_1 { ipv4 }, size_of_val(&ipv4))
    }

    #[inline(always)]
    fn is_cookie(listener: *mut bpf_sock, key: &RevKey<V4>, segment: &Tcp) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (key.client, key.task);
        // Version and addresses where they stand in an IPv4 header.
        let header = [
            0x45,
            u64::from_ne_bytes([0, 0, 0, 0, a, b, c, d]),
            u64::from_ne_bytes([e, f, g, h, 0, 0, 0, 0]),
        ];
        is_cookie(listener, &header, segment)
    }
}

impl Lookup for Six {
    #[inline(always)]
    fn tuple(key: &RevKey<V6>) -> (bpf_sock_tuple__bindgen_ty_1, usize) {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            // SAFETY: sixteen bytes either way.
            saddr: unsafe { core::mem::transmute::<V6, [u32; 4]>(key.client) },
            // SAFETY: as above.
            daddr: unsafe { core::mem::transmute::<V6, [u32; 4]>(key.task) },
            sport: u16::from_ne_bytes(key.client_port),
            dport: u16::from_ne_bytes(key.task_port),
        };
        (bpf_sock_tuple__bindgen_ty_1 { ipv6 }, size_of_val(&ipv6))
    }

    #[inline(always)]
    fn is_cookie(listener: *mut bpf_sock, key: &RevKey<V6>, segment: &Tcp) -> bool {
        // SAFETY: sixteen bytes either way.
        let [a, b] = unsafe { core::mem::transmute::<V6, [u64; 2]>(key.client) };
        // SAFETY: as above.
        let [c, d] = unsafe { core::mem::transmute::<V6, [u64; 2]>(key.task) };
        // As in an IPv6 header.
        let header = [0x60, a, b, c, d];
        is_cookie(listener, &header, segment)
    }
}
