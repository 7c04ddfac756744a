//! The programs. Each entry point turns a packet into a verdict, counts it, and says it to the kernel.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("portico-ebpf holds kernel programs; `portico run` loads them");
}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::sk_action::SK_PASS;
    use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
    use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, sk_lookup, xdp};
    use aya_ebpf::programs::{SkLookupContext, SockAddrContext, SockContext, TcContext, XdpContext};
    use lb_common::Verdict;
    use lb_common::verdict::Outcome;
    use lb_ebpf::frame::Frame;
    use lb_ebpf::kernel::call::{self, Call};
    use lb_ebpf::kernel::skb::Skb;
    use lb_ebpf::kernel::{clock, host, inbound, lookup, note, probe, steer, xdp};

    /// XDP on devices that face the network and can do it.
    #[xdp]
    pub fn uplink_xdp(context: XdpContext) -> u32 {
        xdp::uplink(context.ctx)
    }

    /// tc ingress of devices that face the network.
    #[classifier]
    pub fn uplink(context: TcContext) -> i32 {
        let skb = Skb::new(context.skb.skb);
        let bytes = skb.length();
        conclude(inbound::uplink::<false>(skb), bytes)
    }

    /// tc ingress of the host side of tasks' devices, and of bridges.
    #[classifier]
    pub fn task(context: TcContext) -> i32 {
        let skb = Skb::new(context.skb.skb);
        let bytes = skb.length();
        conclude(inbound::task(skb), bytes)
    }

    /// tc egress of devices by which replies of tasks in the node's own namespace leave; attached while there are such tasks.
    #[classifier]
    pub fn answer(context: TcContext) -> i32 {
        let skb = Skb::written(context.skb.skb);
        match host::answer(skb) {
            Verdict::NotOurs => TC_ACT_UNSPEC,
            verdict => conclude(verdict, skb.length()),
        }
    }

    /// `uplink`'s decisions without their consequences; never attached.
    #[classifier]
    pub fn trace(context: TcContext) -> i32 {
        note::end(inbound::uplink::<true>(Skb::new(context.skb.skb)));
        TC_ACT_SHOT as i32
    }

    /// The agent's question about a task's socket; never attached.
    #[classifier]
    pub fn probe(context: TcContext) -> i32 {
        probe::answer(Skb::new(context.skb.skb));
        TC_ACT_UNSPEC
    }

    /// Lets the system call go on, wherever it leads now.
    const GO_ON: i32 = 1;

    #[cgroup_sock_addr(connect4)]
    pub fn connect4(context: SockAddrContext) -> i32 {
        steer::turn4(Call::new(&context));
        GO_ON
    }

    #[cgroup_sock_addr(connect6)]
    pub fn connect6(context: SockAddrContext) -> i32 {
        steer::turn6(Call::new(&context));
        GO_ON
    }

    /// A datagram from a socket that is not connected.
    #[cgroup_sock_addr(sendmsg4)]
    pub fn sendmsg4(context: SockAddrContext) -> i32 {
        steer::turn4(Call::new(&context));
        GO_ON
    }

    #[cgroup_sock_addr(sendmsg6)]
    pub fn sendmsg6(context: SockAddrContext) -> i32 {
        steer::turn6(Call::new(&context));
        GO_ON
    }

    #[cgroup_sock_addr(getpeername4)]
    pub fn getpeername4(context: SockAddrContext) -> i32 {
        steer::show4(Call::new(&context));
        GO_ON
    }

    #[cgroup_sock_addr(getpeername6)]
    pub fn getpeername6(context: SockAddrContext) -> i32 {
        steer::show6(Call::new(&context));
        GO_ON
    }

    #[cgroup_sock_addr(recvmsg4)]
    pub fn recvmsg4(context: SockAddrContext) -> i32 {
        steer::receive4(Call::new(&context));
        GO_ON
    }

    #[cgroup_sock_addr(recvmsg6)]
    pub fn recvmsg6(context: SockAddrContext) -> i32 {
        steer::receive6(Call::new(&context));
        GO_ON
    }

    #[cgroup_sock(sock_release)]
    pub fn sock_release(context: SockContext) -> i32 {
        steer::forget(call::cookie(&context));
        GO_ON
    }

    /// A connection that nobody has yet, in the node's own network namespace; attached while another program has a frontend's port.
    #[sk_lookup]
    pub fn lookup(context: SkLookupContext) -> u32 {
        lookup::lead(context);
        SK_PASS
    }

    #[inline(always)]
    fn conclude(verdict: Verdict, bytes: usize) -> i32 {
        clock::count(verdict, bytes);
        match verdict.outcome() {
            // Other programs and the stack see it.
            Outcome::Passed => TC_ACT_UNSPEC,
            Outcome::Forwarded | Outcome::Answered => TC_ACT_REDIRECT as i32,
            Outcome::Dropped => TC_ACT_SHOT as i32,
        }
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {}
    }
}
