//! The client of the tracer: what it is asked, and what it is told.

mod executed;
mod notices;
mod prepare;
mod requests;

pub use prepare::prepare;
