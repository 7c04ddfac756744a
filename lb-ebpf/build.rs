//! Tells bpf-linker how to translate the programs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_TARGET_ARCH").is_some_and(|arch| arch == "bpf") {
        // Headers are read as structures of byte arrays. BPF machines load unaligned words well; LLVM has to be told, or
        // it loads byte by byte and doubles the instructions (381 to 218 for a prototype of the fast path). LLVM before
        // 22 does not know the feature and ignores it.
        println!("cargo:rustc-link-arg=--cpu-features=+allows-misaligned-mem-access");
    }
}
