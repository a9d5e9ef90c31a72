//! Which memory holds code, and what may change it.

pub mod mappings;
pub mod write_protect;
