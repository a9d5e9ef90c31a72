//! io_uring.

mod ring;
mod rings;

pub use rings::Rings;
