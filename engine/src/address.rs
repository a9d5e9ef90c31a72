//! Addresses of code, of two kinds that must not be mistaken for each other.

use core::fmt;

/// Where a thread executes or would execute: an address in the code cache, as long as it is followed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct CachePc(pub u64);

impl CachePc {
    /// How many bytes it lies behind another one.
    pub fn offset_from(self, begin: CachePc) -> u64 {
        self.0.wrapping_sub(begin.0)
    }
}

impl fmt::Debug for CachePc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cache:{:x}", self.0)
    }
}
