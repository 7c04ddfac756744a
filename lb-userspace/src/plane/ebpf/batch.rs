//! Reading a hash map many entries at a time: aya has no call for it, and one entry at a time costs two system calls each
//! and starts over whenever the entry it stands on is deleted.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use lb_common::Plain;

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The part of the kernel's `union bpf_attr` that batch commands use.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Where a walk through a map stands: a bucket, so deletions do not disturb it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Option<u32>);

impl Cursor {
    pub fn is_at_start(self) -> bool {
        self.0.is_none()
    }
}

/// Appends the next entries, about `room` of them, to `entries`. At the end the cursor is back at the start.
pub fn lookup<K: Plain, V: Plain>(
    map: BorrowedFd,
    cursor: &mut Cursor,
    mut room: usize,
    entries: &mut Vec<(K, V)>,
) -> io::Result<()> {
    loop {
        let mut keys: Vec<K> = Vec::with_capacity(room);
        let mut values: Vec<V> = Vec::with_capacity(room);
        let mut next = 0u32;
        let mut attributes = BatchAttributes {
            in_batch: cursor.0.as_ref().map_or(0, |at| std::ptr::from_ref(at) as u64),
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            map_fd: map.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes are of the layout and size given, and the four pointers in them lead to memory of this
        // frame that holds what the command reads (`in_batch`) or writes (`room` keys and values of the map's sizes,
        // which the caller's typed map has checked).
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                &raw mut attributes,
                size_of::<BatchAttributes>(),
            )
        };
        let error = (result < 0).then(io::Error::last_os_error);
        match error.as_ref().and_then(io::Error::raw_os_error) {
            None | Some(libc::ENOENT) => {}
            // A bucket larger than the room: nothing was read.
            Some(libc::ENOSPC) if room < 1 << 16 => {
                room *= 4;
                continue;
            }
            Some(_) => return error.map_or(Ok(()), Err),
        }
        let found = (attributes.count as usize).min(room);
        // SAFETY: the kernel wrote `found` keys and values; `Plain` types have no invalid values.
        unsafe {
            keys.set_len(found);
            values.set_len(found);
        }
        entries.extend(keys.into_iter().zip(values));
        cursor.0 = error.is_none().then_some(next);
        return Ok(());
    }
}
