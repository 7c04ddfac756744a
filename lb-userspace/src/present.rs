//! How many there are of something, now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts one more as long as it lives.
#[derive(Debug)]
pub struct Present(Arc<AtomicU64>);

impl Present {
    pub fn of(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
