//! Commands about links that aya has for devices only, or for programs that it holds itself.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
/// The place of a network namespace where listening sockets are looked up.
const BPF_SK_LOOKUP: u32 = 36;

/// The part of the kernel's `union bpf_attr` that makes a pin and opens one.
#[repr(C)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part that attaches a program.
#[repr(C)]
struct CreateAttributes {
    program: u32,
    target: u32,
    place: u32,
    flags: u32,
}

/// The part that changes a link's program.
#[repr(C)]
struct UpdateAttributes {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Opens the link pinned at `path`.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    opened(call(BPF_OBJ_GET, &mut attributes)?)
}

/// Pins a link at `path`: it holds as long as the pin is there.
pub fn pin(link: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes {
        path: path.as_ptr() as u64,
        fd: link.as_raw_fd() as u32,
        flags: 0,
    };
    call(BPF_OBJ_PIN, &mut attributes).map(drop)
}

/// Attaches a program to where the network namespace looks listening sockets up.
pub fn attach_lookup(program: BorrowedFd, namespace: BorrowedFd) -> io::Result<OwnedFd> {
    let mut attributes = CreateAttributes {
        program: program.as_raw_fd() as u32,
        target: namespace.as_raw_fd() as u32,
        place: BPF_SK_LOOKUP,
        flags: 0,
    };
    opened(call(BPF_LINK_CREATE, &mut attributes)?)
}

/// Puts another program in the place of the link's, without a gap. Fails where what the link is attached to is gone.
pub fn update(link: &OwnedFd, program: BorrowedFd) -> io::Result<()> {
    let mut attributes = UpdateAttributes {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    call(BPF_LINK_UPDATE, &mut attributes).map(drop)
}

fn opened(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes are of the layout that the command has, of the size given, and what they point to outlives the
    // call: all callers keep it in their frames.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}
