//! What `cargo xtask bench packet` puts in front of the programs it measures: BPF_PROG_TEST_RUN does not restore the
//! packet between repeats, so a program here does, makes it one of another flow, and calls the program under test.
//! Never loaded by the agent.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("portico-bench holds kernel programs; `cargo xtask bench packet` loads them");
}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_TX};
    use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT};
    use aya_ebpf::btf_maps::{Array, ProgramArray};
    use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
    use aya_ebpf::macros::{btf_map, classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use lb_common::geneve::OVERHEAD;
    use lb_ebpf::frame::{Frame, L3};
    use lb_ebpf::plan::{HEADERS, Plan};

    #[btf_map]
    static PLAN: Array<Plan, 1> = Array::new();

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
        let source = Plan::source(plan.next());
        if plan.six == 0 {
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
