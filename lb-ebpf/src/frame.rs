//! A frame that the kernel lends us, read and written only through bounds checks that the verifier can see.

use lb_common::Plain;

/// Bytes in front of the IP header: Ethernet, its VLAN tag (if any) already taken off by the device or the kernel.
pub const L3: usize = 14;

/// Somewhere a frame lies. [`start`](Self::start) is the Ethernet header; between [`start`](Self::start) and
/// [`end`](Self::end) lies what may be read directly, which can be less than the frame.
pub trait Frame: Copy {
    fn start(&self) -> usize;
    fn end(&self) -> usize;

    /// Bytes in the whole frame.
    fn length(&self) -> usize;

    /// The value `offset` bytes into the frame, or `None` where that is past its end.
    #[inline(always)]
    fn at<T: Plain>(&self, offset: usize) -> Option<T> {
        let from = self.start() + offset;
        if from + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: the bytes lie between start and end, which are readable; `T` is plain, and the read is unaligned.
        Some(unsafe { (from as *const T).read_unaligned() })
    }

    /// Writes `value` at `offset`, or does nothing and returns `None` where it does not fit.
    #[inline(always)]
    fn put<T: Plain>(&self, offset: usize, value: T) -> Option<()> {
        let from = self.start() + offset;
        if from + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: as for `at`, and the frame is ours alone while the program runs.
        unsafe { (from as *mut T).write_unaligned(value) };
        Some(())
    }
}
