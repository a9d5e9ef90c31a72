//! What is read: record files, Spark's event logs, history servers.

pub mod eventlog;
pub mod history_server;
pub mod record_files;
