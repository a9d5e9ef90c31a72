//! From bytes to a basic block.

pub mod block;
pub mod rseq;
pub mod x87_stores;
