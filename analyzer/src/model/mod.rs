//! What records tell, whatever becomes of it: counters, who counted them, the history of a process.

pub mod counts;
pub mod coverage;
pub mod history;
pub mod snapshot_policy;
