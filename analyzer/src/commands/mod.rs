//! The commands, each behind its arguments.

pub mod apps;
mod conf_file;
pub mod diff;
pub mod doctor;
pub mod dump;
pub mod export;
pub mod figures;
pub mod ingest;
pub mod inspect;
mod metric_list;
pub mod purge;
pub mod report;
pub mod rewrite;
pub mod schema;
mod shim;
pub mod spark_conf;
pub mod top;
pub mod trace;
mod tracer;
