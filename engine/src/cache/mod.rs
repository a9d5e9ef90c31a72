//! The code cache: arenas, what is kept of each fragment in them, and how fragments are found.

pub mod address_space;
pub mod arena;
pub mod arenas;
pub mod block_map;
pub mod fragment;
pub mod ibl_table;
