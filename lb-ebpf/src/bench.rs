//! What `cargo xtask bench packet` puts in front of the programs it measures: BPF_PROG_TEST_RUN does not restore the
//! packet between repeats, so a program here does, makes it one of another flow, and calls the program under test. And
//! what `cargo xtask bench path` puts around the paths whose packets it counts. Never loaded by the agent.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("portico-bench holds kernel programs; `cargo xtask bench packet` and `path` load them");
}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_TX};
    use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT};
    use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
    use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_adjust_head};
    use aya_ebpf::macros::{btf_map, classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use lb_common::geneve::OVERHEAD;
    use lb_ebpf::frame::{Frame, L3};
    use lb_ebpf::plan::{FRAME, HEADERS, Hop, Plan};

    #[btf_map]
    static PLAN: Array<Plan, 1> = Array::new();

    #[btf_map]
    static HOP: Array<Hop, 1> = Array::new();

    /// Frames that have arrived.
    #[btf_map]
    static ARRIVED: PerCpuArray<u64, 1> = PerCpuArray::new();

    /// The program under test; an array holds programs of one kind.
    #[btf_map]
    static TEST_XDP: ProgramArray<1> = ProgramArray::new();
    #[btf_map]
    static TEST_TC: ProgramArray<1> = ProgramArray::new();

    /// The fresh packet for an XDP program: its length, its Ethernet header, its source. A relay changes nothing else.
    #[xdp]
    pub fn drive_xdp(context: XdpContext) -> u32 {
        let Some(plan) = plan() else { return XDP_ABORTED };
        if context.data() + HEADERS < context.data_end() {
            // A relay has put its tunnel in front.
            // SAFETY: the helper checks the room there is.
            unsafe { bpf_xdp_adjust_head(context.ctx, OVERHEAD as i32) };
        }
        let frame = Window(context.data(), context.data_end());
        if restore(frame, plan, 2).is_some() && vary(frame, plan).is_some() {
            // SAFETY: the context is this program's.
            unsafe { TEST_XDP.tail_call(&context, 0) };
        }
        XDP_ABORTED
    }

    /// The fresh packet for a tc program: all its headers.
    #[classifier]
    pub fn drive_tc(context: TcContext) -> i32 {
        let Some(plan) = plan() else {
            return TC_ACT_SHOT as i32;
        };
        let frame = Window(context.data(), context.data_end());
        if restore(frame, plan, HEADERS / 8).is_some() && vary(frame, plan).is_some() {
            // SAFETY: the context is this program's.
            unsafe { TEST_TC.tail_call(&context, 0) };
        }
        TC_ACT_SHOT as i32
    }

    /// Under test for the harness's own cost: does nothing.
    #[xdp]
    pub fn nothing_xdp(_: XdpContext) -> u32 {
        XDP_TX
    }

    /// Under test for the harness's own cost where the packet has grown: makes room, as any relay must.
    #[xdp]
    pub fn grow_xdp(context: XdpContext) -> u32 {
        // SAFETY: the helper checks the room there is.
        unsafe { bpf_xdp_adjust_head(context.ctx, -(OVERHEAD as i32)) };
        XDP_TX
    }

    #[classifier]
    pub fn nothing_tc(_: TcContext) -> i32 {
        TC_ACT_REDIRECT as i32
    }

    /// Makes a frame and sends it: run with live frames in the name of the device at the beginning of a path. Flows
    /// differ in the source address and the IPv4 identification, whose words add up to the same: one checksum for all.
    #[xdp]
    pub fn generate_xdp(context: XdpContext) -> u32 {
        let Some(plan) = plan() else { return XDP_ABORTED };
        let frame = Window(context.data(), context.data_end());
        let flow = plan.next() as u16;
        let made = restore(frame, plan, FRAME / 8)
            .and_then(|()| frame.put(L3 + 4, (!flow).to_be_bytes()))
            .and_then(|()| frame.put(L3 + 14, flow.to_be_bytes()));
        if made.is_some() { XDP_TX } else { XDP_ABORTED }
    }

    /// What a router in XDP does at the least: new Ethernet addresses, and out by another device.
    #[xdp]
    pub fn forward_xdp(context: XdpContext) -> u32 {
        let Some(hop) = HOP.get(0) else { return XDP_ABORTED };
        let frame = Window(context.data(), context.data_end());
        if frame.put(0, hop.addresses).is_none() {
            return XDP_ABORTED;
        }
        // SAFETY: takes numbers only.
        unsafe { bpf_redirect(hop.device, 0) as u32 }
    }

    /// The end of every path.
    #[xdp]
    pub fn arrive_xdp(context: XdpContext) -> u32 {
        // Heartbeats and the like are none of the frames sent.
        if context.data_end() - context.data() >= FRAME
            && let Some(arrived) = ARRIVED.get_ptr_mut(0)
        {
            // SAFETY: the element of this CPU, which one program at a time uses.
            unsafe { *arrived += 1 };
        }
        XDP_DROP
    }

    #[inline(always)]
    fn plan() -> Option<&'static mut Plan> {
        // SAFETY: one measurement at a time uses the value.
        PLAN.get_ptr_mut(0).map(|plan| unsafe { &mut *plan })
    }

    /// Writes the first words of the fresh packet.
    #[inline(always)]
    fn restore(frame: Window, plan: &Plan, words: usize) -> Option<()> {
        // Word by word: a copy of all would be a call, and a program that calls cannot tail-call everywhere.
        for (index, word) in plan.headers.iter().enumerate().take(words) {
            frame.put(index * 8, *word)?;
        }
        Some(())
    }

    /// Makes the packet one of the next flow.
    #[inline(always)]
    fn vary(frame: Window, plan: &mut Plan) -> Option<()> {
        let number = plan.next();
        let source = Plan::source(number);
        if plan.six == 0 {
            frame.put(L3 + 4, Plan::identification(number))?;
            frame.put(L3 + 12, source)
        } else {
            frame.put(L3 + 8 + 12, source)
        }
    }

    /// Start and end of a frame.
    #[derive(Clone, Copy)]
    struct Window(usize, usize);

    impl Frame for Window {
        #[inline(always)]
        fn start(&self) -> usize {
            self.0
        }

        #[inline(always)]
        fn end(&self) -> usize {
            self.1
        }

        #[inline(always)]
        fn length(&self) -> usize {
            self.1 - self.0
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
