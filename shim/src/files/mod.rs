//! Files that others may have put in our way: opened with care; the log and the folder of records.

pub mod log;
pub mod output_folder;
pub mod trusted;
