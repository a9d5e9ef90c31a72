//! The functions of libc that this library defines in their place.
//!
//! # Design
//!
//! Each hook is an assembly stub. In a passive process it jumps to the next definition: one compare and
//! one indirect jump. In a counting one it goes to `enter` ([`stubs`]), which saves the arguments in a [`frame::Frame`],
//! asks Rust ([`calls::before`]), calls the next definition *from its own frame*, and tells Rust the result
//! ([`calls::after`]). So no Rust frame is on the stack while the application's call waits: cancellation and
//! exceptions unwind through `enter` by its unwinding table, and there is no state to undo.
//!
//! Variadic functions need nothing special: integer arguments are in registers, those on the stack stay
//! where they are when the stub jumps instead of calling.

mod actions;
mod calls;
mod errno;
mod frame;
#[cfg(feature = "gum")]
pub mod gum;
mod list;
mod rights;
mod stubs;

pub use list::resolve_all;
pub use stubs::{next_of_stub, serves_bridge};
