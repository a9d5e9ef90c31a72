//! `analyzer report`: where the work went, per node, executor, process, thread, directory, query, job, stage, task,
//! application and time; and what is wrong with it ([`findings`]).
//!
//! Rows reconcile: every counter of a process is either in one of its tasks or in "outside tasks", so the
//! sum over all rows is the sum of the processes' totals. Our tasks and Spark's are joined by (cluster,
//! application id, application attempt, TID), never by time.

pub mod accumulate;
pub mod answer;
pub mod applications;
pub mod csv;
pub mod directories;
pub mod figure;
pub mod findings;
pub mod gather;
pub mod glossary;
pub mod grouped;
pub mod html;
pub mod jobs;
pub mod key;
pub mod limits;
pub mod logged;
pub mod logged_task;
pub mod logs;
pub mod markdown;
pub mod notes;
pub mod overview;
pub mod parquet;
pub mod pieces;
pub mod plan;
pub mod print;
pub mod question;
pub mod rated;
pub mod rows;
pub mod spread;
pub mod spread_print;
pub mod stage_attempts;
pub mod stage_names;
pub mod task_facts;
pub mod tasks;
pub mod threads;
pub mod where_filter;
pub mod words;
