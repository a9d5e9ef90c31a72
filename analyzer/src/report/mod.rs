//! `analyzer report`: where the work went, per node, executor, process, thread, directory, job, stage, task,
//! application and time.
//!
//! Rows reconcile: every counter of a process is either in one of its tasks or in "outside tasks", so the
//! sum over all rows is the sum of the processes' totals. Our tasks and Spark's are joined by (cluster,
//! application id, application attempt, TID), never by time.

mod command;
mod csv;
mod directories;
mod figure;
mod gather;
mod grouped;
mod html;
mod jobs;
mod key;
mod limits;
mod logged;
mod markdown;
mod notes;
mod parquet;
mod pieces;
mod print;
mod rated;
mod rows;
mod spread;
mod spread_print;
mod stage_attempts;
mod stage_names;
mod tasks;
mod threads;

pub use command::{Args, figures_for, run};
pub use csv::csv_cell;
pub use figure::{Figure, Scale};
pub use gather::{Answer, Question, gather};
pub use key::{Dimension, Key, Name, Part};
pub use markdown::markdown_cell;
pub use print::{human, stage_text};
pub use rated::Rated;
pub use rows::{Counted, Row, Said};
