//! Pipes: what `splice` needs between two sockets. Held only while bytes move.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

/// Bytes that a pipe is asked to hold. Where the kernel grants less to this user (fs.pipe-user-pages-soft) it holds less.
pub const SIZE: usize = 256 << 10;
/// Pipes that a worker keeps for the next connection that moves bytes: two descriptors each.
const KEPT: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
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
    /// An empty one, from this worker's pool where it has one.
    pub fn take() -> io::Result<Self> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        // A smaller one does, too.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(SIZE as i32));
        Ok(Self {
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

    /// Moves what has arrived at `from` into the pipe; 0: its end.
    pub fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let moved = splice(from, None, &self.write, None, SIZE, FLAGS)?;
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

const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);
