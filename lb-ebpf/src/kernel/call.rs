//! A process's system call that names an address, as the programs at sockets see it.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use lb_common::key::{RevKey, TCP, UDP};
use lb_common::{Address, V4, V6};

use super::globals::host_netns;
use super::socket::{Aligned, Lookup, question};

/// As [`Call::cookie`], of a socket that is closed.
#[inline(always)]
pub fn cookie(context: &SockContext) -> u64 {
    // SAFETY: takes the context.
    unsafe { bpf_get_socket_cookie(context.sock.cast()) }
}

/// Fields are read and written whole and one at a time: the kernel rewrites each access, and knows no others.
#[derive(Clone, Copy)]
pub struct Call(*mut bpf_sock_addr);

impl Call {
    #[inline(always)]
    pub fn new(context: &SockAddrContext) -> Self {
        Self(context.sock_addr)
    }

    /// TCP or UDP; the kernel asks about other sockets, too.
    #[inline(always)]
    pub fn protocol(self) -> Option<u8> {
        // SAFETY: a field of the context.
        match unsafe { (&raw const (*self.0).protocol).read_volatile() } as u8 {
            protocol @ (TCP | UDP) => Some(protocol),
            _ => None,
        }
    }

    #[inline(always)]
    pub fn port(self) -> [u8; 2] {
        // SAFETY: a field of the context; the port is in its first two bytes.
        let port = unsafe { (&raw const (*self.0).user_port).read_volatile() };
        (port as u16).to_ne_bytes()
    }

    #[inline(always)]
    pub fn set_port(self, port: [u8; 2]) {
        // SAFETY: a field of the context that these programs may write.
        unsafe { (&raw mut (*self.0).user_port).write_volatile(u16::from_ne_bytes(port) as u32) }
    }

    #[inline(always)]
    pub fn address4(self) -> V4 {
        // SAFETY: a field of the context.
        unsafe { (&raw const (*self.0).user_ip4).read_volatile() }.to_ne_bytes()
    }

    #[inline(always)]
    pub fn set_address4(self, address: V4) {
        // SAFETY: a field of the context that these programs may write.
        unsafe { (&raw mut (*self.0).user_ip4).write_volatile(u32::from_ne_bytes(address)) }
    }

    #[inline(always)]
    pub fn address6(self) -> V6 {
        // SAFETY: a field of the context.
        let word = |at: usize| unsafe {
            (&raw const (*self.0).user_ip6)
                .cast::<u32>()
                .add(at)
                .read_volatile()
        };
        // SAFETY: sixteen bytes either way.
        unsafe { core::mem::transmute([word(0), word(1), word(2), word(3)]) }
    }

    #[inline(always)]
    pub fn set_address6(self, address: V6) {
        // SAFETY: sixteen bytes either way.
        let words: [u32; 4] = unsafe { core::mem::transmute(address) };
        let put = |at: usize, word| {
            // SAFETY: a field of the context that these programs may write.
            unsafe {
                (&raw mut (*self.0).user_ip6)
                    .cast::<u32>()
                    .add(at)
                    .write_volatile(word);
            }
        };
        let [a, b, c, d] = words;
        put(0, a);
        put(1, b);
        put(2, c);
        put(3, d);
    }

    /// The IPv4 address that the socket was bound to, all zero where it was not; of an IPv6 socket that was bound to an address
    /// of its own family one of 127.0.0.0/8.
    #[inline(always)]
    pub fn bound4(self) -> V4 {
        let socket = self.socket();
        if socket.is_null() {
            return [0; 4];
        }
        // SAFETY: the kernel keeps the socket for as long as the call lasts.
        unsafe { (&raw const (*socket).src_ip4).read_volatile() }.to_ne_bytes()
    }

    /// The address that an IPv6 socket was bound to, all zero where it was not.
    #[inline(always)]
    pub fn bound6(self) -> V6 {
        let socket = self.socket();
        if socket.is_null() {
            return [0; 16];
        }
        // SAFETY: the kernel keeps the socket for as long as the call lasts.
        let word = |at: usize| unsafe {
            (&raw const (*socket).src_ip6)
                .cast::<u32>()
                .add(at)
                .read_volatile()
        };
        // SAFETY: sixteen bytes either way.
        unsafe { core::mem::transmute([word(0), word(1), word(2), word(3)]) }
    }

    #[inline(always)]
    fn socket(self) -> *mut bpf_sock {
        // SAFETY: a field of the context.
        unsafe { (&raw const (*self.0).__bindgen_anon_1.sk).read_volatile() }
    }

    /// Of the socket, unlike any other's.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: takes the context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    /// Of the socket's network namespace.
    #[inline(always)]
    pub fn namespace(self) -> u64 {
        // SAFETY: takes the context.
        unsafe { bpf_get_netns_cookie(self.0.cast()) }
    }

    /// Whether the socket is in the node's own network namespace.
    #[inline(always)]
    pub fn is_of_node(self) -> bool {
        self.namespace() == host_netns()
    }

    /// Whether anybody takes what comes for this address and port: in the socket's own namespace, or in one that it knows
    /// by this id.
    #[inline(always)]
    pub fn listens<V: Lookup>(
        self,
        address: V::Address,
        port: [u8; 2],
        protocol: u8,
        namespace: i32,
    ) -> bool {
        let nobody = V::Address::narrow([0; 16]);
        let key = RevKey::new(address, nobody, port, [0; 2], protocol);
        let (mut tuple, size) = question::<V>(&key);
        let tuple: *mut Aligned<_> = &mut tuple;
        let (context, namespace) = (self.0.cast(), namespace as i64 as u64);
        // SAFETY: the tuple lives on the stack and `size` is that of the member in use; a socket returned is released.
        unsafe {
            let socket = if protocol == TCP {
                bpf_skc_lookup_tcp(context, tuple.cast(), size, namespace, 0).cast()
            } else {
                bpf_sk_lookup_udp(context, tuple.cast(), size, namespace, 0)
            };
            if socket.is_null() {
                return false;
            }
            bpf_sk_release(socket.cast());
            true
        }
    }
}
