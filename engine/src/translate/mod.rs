//! From basic blocks to fragments.

mod block_end;
#[cfg(test)]
mod emitted_code;
mod entry;
mod links;
mod self_loop;
mod straight_line;
pub mod translator;
mod whole_block;
