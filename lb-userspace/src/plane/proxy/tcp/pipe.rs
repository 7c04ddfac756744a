//! Pipes: what `splice` needs between two sockets. Held only while bytes move.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

/// Bytes that a pipe is asked to hold. Where the kernel grants less to this user (fs.pipe-user-pages-soft) it holds less.
pub const SIZE: usize = 256 << 10;
/// Pipes that a worker keeps for the next connection that moves bytes: two descriptors each.
const KEPT: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    /// The kernel refuses `splice`, and is not asked again.
    static IS_REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// One pipe and how many bytes are in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    /// Bytes that went through since it was taken.
    through: usize,
}

impl Pipe {
    /// An empty one, from this worker's pool where it has one. Nothing: no descriptors are left, or pipes are of no use here.
    pub fn take() -> Option<Self> {
        if IS_REFUSED.get() {
            return None;
        }
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).ok()?;
        // A smaller one does, too.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(SIZE as i32));
        Some(Self {
            read,
            write,
            held: 0,
            through: 0,
        })
    }

    /// Gives it back. One with bytes in it is of no use to anybody else.
    pub fn give(mut self) {
        if self.held == 0 {
            self.through = 0;
            POOL.with_borrow_mut(|pool| {
                if pool.len() < KEPT {
                    pool.push(self);
                }
            });
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.held == 0
    }

    pub const fn through(&self) -> usize {
        self.through
    }

    /// Whether more shall be taken before something is sent on.
    pub const fn has_room(&self) -> bool {
        self.held < SIZE / 2
    }

    /// Moves what has arrived at `from` into the pipe; 0: its end. Fails as `from` does, or with [a refusal](is_refusal).
    pub fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let moved = splice(from, None, &self.write, None, SIZE, FLAGS)
            .map_err(io::Error::from)
            .inspect_err(|error| IS_REFUSED.set(IS_REFUSED.get() || is_refusal(error)))?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds on to `to`, as far as that takes it.
    pub fn empty(&mut self, to: impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.read, None, to, None, self.held, FLAGS)?;
        self.held -= moved;
        self.through += moved;
        Ok(moved)
    }
}

/// Whether it is not the socket that fails but `splice` that the kernel refuses: it has none, or a filter of system calls is before it.
pub fn is_refusal(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM | Errno::EACCES)
    )
}

const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);
