//! What the engine asks of its client.

pub mod tracer;
