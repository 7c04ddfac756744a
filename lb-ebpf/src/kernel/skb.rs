//! The packet in tc: the one place that calls the kernel's helpers on it.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
    BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, TC_ACT_REDIRECT,
    bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer,
    bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_pull_data,
};
use lb_common::geneve::OVERHEAD;
use lb_common::table::Uplink;
use lb_common::{V6, Verdict};

use crate::frame::Frame;

/// As much of a frame as any program reads: tunnel headers, then Ethernet, IPv6 with extensions and TCP with options.
const HEADERS: u32 = 320;
/// EALREADY, as helpers return it.
const ALREADY: i64 = -114;
/// Bytes opened and closed again for their side effect.
const SPARE: i32 = 4;
/// Mark of a packet for the node's stack: "po", in 16 bits.
const FOR_STACK: u32 = 0x706f;

/// A packet in a tc program. Pointers into it are taken anew after every helper that may move it.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff);

impl Frame for Skb {
    #[inline(always)]
    fn start(&self) -> usize {
        // Read anew each time: LLVM would spare a bounds check that follows from an earlier one, and the verifier, which
        // keeps bounds with the pointer that was compared, would not see why.
        // SAFETY: the kernel's context, valid while the program runs.
        unsafe { (&raw const (*self.0).data).read_volatile() as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).data_end).read_volatile() as usize }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).len as usize }
    }
}

impl Skb {
    /// Takes the packet and makes its headers readable, wherever the driver put them.
    #[inline(always)]
    pub fn new(context: *mut __sk_buff) -> Self {
        let skb = Self(context);
        if skb.start() + (HEADERS as usize) > skb.end() && skb.end() - skb.start() < skb.length() {
            // SAFETY: the context is the program's own. On failure less can be read, and parsing says so.
            unsafe { bpf_skb_pull_data(context, HEADERS.min(skb.length() as u32)) };
        }
        skb
    }

    /// As [`new`](Self::new), for a packet that this node's kernel wrote: its headers lie where they can be read.
    #[inline(always)]
    pub fn written(context: *mut __sk_buff) -> Self {
        Self(context)
    }

    /// Whether it came in by any device, and is on its way through this node.
    #[inline(always)]
    pub fn came_in(&self) -> bool {
        // SAFETY: the kernel's context, valid while the program runs.
        unsafe { (*self.0).ingress_ifindex != 0 }
    }

    /// Leaves the packet to the node's stack: a program of ours that sees it on the way there, as a bridge's does after that
    /// of the bridge's port, shall leave it alone.
    #[inline(always)]
    pub fn to_stack(&self) {
        // SAFETY: a field that programs may write. No classifier reads it any more, and forwarding clears nothing of it.
        unsafe { (*self.0).tc_index = FOR_STACK };
    }

    /// Whether a program of ours has left the packet to the stack.
    #[inline(always)]
    pub fn is_for_stack(&self) -> bool {
        // SAFETY: as for `came_in`.
        unsafe { (*self.0).tc_index == FOR_STACK }
    }

    #[inline(always)]
    pub fn raw(&self) -> *mut __sk_buff {
        self.0
    }

    /// Index of the device whose program this is.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the kernel's context, valid while the program runs.
        unsafe { (*self.0).ifindex }
    }

    /// Payload of each segment of a super-packet, 0 for an ordinary one.
    #[inline(always)]
    pub fn segment(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size as usize }
    }

    /// Adds a difference to the transport checksum at `offset`, however far it has been computed. `flags` are those of
    /// `bpf_l4_csum_replace`.
    #[inline(always)]
    pub fn checksum(&self, offset: usize, difference: u32, flags: u64) -> Result<(), Verdict> {
        // SAFETY: the helper checks the offset.
        done(unsafe { bpf_l4_csum_replace(self.0, offset as u32, 0, difference as u64, flags) })
    }

    /// Tells the kernel that bytes outside any checksum of their own changed by `difference`.
    #[inline(always)]
    pub fn changed(&self, difference: u32) {
        // SAFETY: the helper only touches the sum that a device computed; without one it fails, and nothing is lost.
        unsafe { bpf_csum_update(self.0, difference) };
    }

    /// Opens room for the tunnel headers behind the Ethernet header of a packet that is IPv6 if `six`.
    #[inline(always)]
    pub fn open_tunnel(&self, six: bool) -> Result<(), Verdict> {
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
        match self.adjust(OVERHEAD as i32, flags) {
            // Between two veth devices a packet keeps the marks of the tunnel it was in, and the kernel does not set
            // them twice. The headers taken off were as long as these: the marks are right again.
            ALREADY if six => {
                // The packet becomes an IPv4 one only where something is taken off it.
                done(self.adjust(OVERHEAD as i32 + SPARE, BPF_F_ADJ_ROOM_FIXED_GSO))?;
                let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_DECAP_L3_IPV4;
                done(self.adjust(-SPARE, flags))
            }
            ALREADY => done(self.adjust(OVERHEAD as i32, BPF_F_ADJ_ROOM_FIXED_GSO)),
            result => done(result),
        }
    }

    /// Opens `bytes` of room behind the Ethernet header.
    #[inline(always)]
    pub fn open(&self, bytes: usize) -> Result<(), Verdict> {
        done(self.adjust(bytes as i32, 0))
    }

    /// Takes the tunnel headers off; what they held is IPv6 if `six`.
    #[inline(always)]
    pub fn close_tunnel(&self, six: bool) -> Result<(), Verdict> {
        let inner = if six {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV6
        } else {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV4
        };
        done(self.adjust(-(OVERHEAD as i32), BPF_F_ADJ_ROOM_FIXED_GSO | inner))
    }

    #[inline(always)]
    fn adjust(&self, bytes: i32, flags: u32) -> i64 {
        // SAFETY: the helper checks sizes.
        unsafe { bpf_skb_adjust_room(self.0, bytes, BPF_ADJ_ROOM_MAC, flags as u64) }
    }

    /// Cuts or extends the frame to `length` bytes.
    #[inline(always)]
    pub fn resize(&self, length: usize) -> Result<(), Verdict> {
        // SAFETY: the helper checks sizes.
        done(unsafe { bpf_skb_change_tail(self.0, length as u32, 0) })
    }

    /// Hands the packet to the other end of the veth pair `ifindex`, in its namespace, past the host's stack.
    #[inline(always)]
    pub fn to_peer(&self, ifindex: u32, verdict: Verdict) -> Verdict {
        // SAFETY: takes numbers only; a device that has gone drops the packet when it gets there.
        sent(unsafe { bpf_redirect_peer(ifindex, 0) }, verdict)
    }

    /// Sends the packet out of `ifindex` to the next hop that the routing table gives for its destination.
    #[inline(always)]
    pub fn to_neighbour(&self, ifindex: u32, verdict: Verdict) -> Verdict {
        // SAFETY: as above; no parameters means that the kernel looks the next hop up.
        sent(
            unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) },
            verdict,
        )
    }
}

impl Skb {
    /// Sends the packet out of `ifindex`, whose other end is `portico0`, to this node itself.
    #[inline(always)]
    pub fn to_host(&self, ifindex: u32, verdict: Verdict) -> Verdict {
        if self.put(0, lb_common::host::MAC).is_none() {
            return Verdict::Failed;
        }
        // SAFETY: as above.
        sent(unsafe { bpf_redirect(ifindex, 0) }, verdict)
    }

    /// Sends the packet out of an uplink to its IPv6 gateway.
    #[inline(always)]
    pub fn to_gateway6(&self, uplink: &Uplink, verdict: Verdict) -> Verdict {
        // The map's own memory: the stack has no room for it.
        let hop = (&raw const uplink.family6).cast_mut().cast::<bpf_redir_neigh>();
        // SAFETY: family and gateway lie in the map value as in the kernel's structure; it only reads them.
        let action =
            unsafe { bpf_redirect_neigh(uplink.ifindex, hop, size_of::<bpf_redir_neigh>() as i32, 0) };
        sent(action, verdict)
    }
}

const _: () = assert!(size_of::<bpf_redir_neigh>() == 4 + size_of::<V6>());

#[inline(always)]
fn done(result: i64) -> Result<(), Verdict> {
    if result == 0 { Ok(()) } else { Err(Verdict::Failed) }
}

#[inline(always)]
fn sent(action: i64, verdict: Verdict) -> Verdict {
    if action == TC_ACT_REDIRECT as i64 {
        verdict
    } else {
        Verdict::Failed
    }
}
