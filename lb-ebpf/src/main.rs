//! The programs as the kernel loads them.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod bpf {
    use aya_ebpf::bindings::TC_ACT_OK;
    use aya_ebpf::macros::classifier;
    use aya_ebpf::programs::TcContext;

    #[classifier]
    pub fn uplink(_: TcContext) -> i32 {
        TC_ACT_OK as i32
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
