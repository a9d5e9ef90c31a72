//! What becomes of the process: a child by fork, its end.

pub mod end;
pub mod fork;
