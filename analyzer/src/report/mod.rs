//! `analyzer report`: where the work went, per node, executor, process, thread, directory, query, job, stage, task,
//! application and time; and what is wrong with it ([`findings`]).
//!
//! Rows reconcile: every counter of a process is either in one of its tasks or in "outside tasks", so the
//! sum over all rows is the sum of the processes' totals. Our tasks and Spark's are joined by (cluster,
//! application id, application attempt, TID), never by time.

mod applications;
mod apps;
mod command;
mod csv;
mod directories;
mod figure;
mod findings;
mod gather;
mod glossary;
mod grouped;
mod html;
mod jobs;
mod key;
mod limits;
mod logged;
mod logs;
mod markdown;
mod notes;
mod overview;
mod parquet;
mod pieces;
mod plan;
mod print;
mod rated;
mod rows;
mod spread;
mod spread_print;
mod stage_attempts;
mod stage_names;
mod task_facts;
mod tasks;
mod threads;
mod where_filter;

pub use apps::{Args as AppsArgs, run as run_apps};
pub use command::{Args, figures_for, run};
pub use csv::csv_cell;
pub use figure::{Figure, Scale};
pub use gather::{Answer, Question, gather};
pub use glossary::{Args as FiguresArgs, meaning, run as run_figures, unit};
pub use key::{Dimension, Key, Name, Part};
pub use markdown::markdown_cell;
pub use print::{human, stage_label, stage_text, wrapped};
pub use rated::Rated;
pub use rows::{Counted, Row, Said};
pub use stage_names::StageName;
