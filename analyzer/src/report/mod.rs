//! `analyzer report`: where the work went, per node, stage, task, executor, process and application.
//!
//! Rows reconcile: every counter of a process is either in one of its tasks or in "outside tasks", so the
//! sum over all rows is the sum of the processes' totals. Our tasks and Spark's are joined by (cluster,
//! application id, application attempt, TID), never by time.

mod command;
mod figure;
mod gather;
mod html;
mod markdown;
mod notes;
mod print;
mod rows;
mod spread;
mod spread_print;
mod stage_names;

pub use command::{Args, run};
pub use print::csv_cell;
