//! What is inserted to count a block, where, and what it is worth.

pub mod insert;
pub mod place;
pub mod weigh;
