//! A kernel array mapped into this process: read without a call, written slot by slot.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use lb_common::Plain;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The values of a `BPF_F_MMAPABLE` array. The programs read them at any time, so a word is written whole or not at
/// all; there is no order between words, and none is needed: each word says one thing.
pub struct Mapped<T> {
    start: NonNull<u8>,
    bytes: NonZeroUsize,
    entries: u32,
    value: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone and lives as long; every access goes through atomics.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T: Plain> Mapped<T> {
    /// Array maps round the size of a value up to 8 bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    pub fn new(map: impl AsFd, entries: u32) -> nix::Result<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as usize;
        let bytes = (Self::STRIDE * entries as usize).next_multiple_of(page);
        let bytes = NonZeroUsize::new(bytes).ok_or(nix::Error::EINVAL)?;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map,
                0,
            )
        }?;
        Ok(Self {
            start: start.cast(),
            bytes,
            entries,
            value: PhantomData,
        })
    }

    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// The address of the word at `offset` in entry `index`; panics where it lies outside, which no caller does with
    /// indices from its allocator.
    fn word<W>(&self, index: u32, offset: usize) -> NonNull<W> {
        let aligned = offset.is_multiple_of(align_of::<W>());
        assert!(index < self.entries && offset + size_of::<W>() <= Self::STRIDE && aligned);
        // SAFETY: inside the mapping, as checked; entries are 8-byte aligned and so is the mapping.
        unsafe { self.start.add(index as usize * Self::STRIDE + offset).cast() }
    }

    pub fn u16(&self, index: u32, offset: usize) -> &AtomicU16 {
        // SAFETY: aligned and inside the mapping; integers have no invalid values, and all access is atomic.
        unsafe { AtomicU16::from_ptr(self.word(index, offset).as_ptr()) }
    }

    pub fn u32(&self, index: u32, offset: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.word(index, offset).as_ptr()) }
    }

    pub fn u64(&self, index: u32, offset: usize) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.word(index, offset).as_ptr()) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` with this length; nothing borrowed from it outlives it.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}

/// Writes only what differs: an untouched cache line stays shared with the programs' CPUs. True where it did.
pub fn set_u16(word: &AtomicU16, value: u16) -> bool {
    let differs = word.load(Ordering::Relaxed) != value;
    if differs {
        word.store(value, Ordering::Relaxed);
    }
    differs
}
