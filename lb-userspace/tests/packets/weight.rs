//! What the kernel's verifier has to do before a node serves.

use std::time::Instant;

use aya::Ebpf;
use aya::programs::SchedClassifier;
use lb_userspace::plane::ebpf::object::PROGRAMS;

/// The verifier gives up on a program after a million instructions.
const MOST: u32 = 700_000;

#[test]
fn no_tc_program_comes_near_what_the_verifier_bears() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: loading programs needs root");
        return;
    }
    let other = std::env::var_os("PORTICO_PROGRAMS").map(|path| std::fs::read(path).unwrap());
    let mut object = Ebpf::load(other.as_deref().unwrap_or(PROGRAMS)).unwrap();
    for name in ["uplink", "task", "answer", "trace", "probe"] {
        let Some(program) = object.program_mut(name) else {
            continue;
        };
        let program: &mut SchedClassifier = program.try_into().unwrap();
        let began = Instant::now();
        program.load().unwrap();
        let verified = program.info().unwrap().verified_instruction_count().unwrap();
        eprintln!(
            "{name}: {verified} instructions verified in {:?}",
            began.elapsed()
        );
        assert!(verified < MOST, "{name}: {verified}");
    }
}
