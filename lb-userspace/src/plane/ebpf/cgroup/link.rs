//! Commands about links that aya has for devices only.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// The part of the kernel's `union bpf_attr` that opens a pin.
#[repr(C)]
struct GetAttributes {
    path: u64,
    fd: u32,
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
    let mut attributes = GetAttributes {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = call(BPF_OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program in the place of the link's, without a gap. Fails where the link's cgroup is gone.
pub fn update(link: &OwnedFd, program: BorrowedFd) -> io::Result<()> {
    let mut attributes = UpdateAttributes {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    call(BPF_LINK_UPDATE, &mut attributes).map(drop)
}

fn call<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes are of the layout that the command has, of the size given, and what they point to outlives the
    // call: both callers keep it in their frame.
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
