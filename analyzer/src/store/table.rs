//! The tables of a store.

use polars::prelude::DataType;

/// A table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// A row per process image.
    Processes,
    /// A row per thread.
    Threads,
    /// A row per task attempt that our records tell of.
    Tasks,
    /// A row per notice, exec and spawn.
    Notices,
    /// A row per record file.
    Segments,
    /// A row per snapshot that was to be kept.
    Snapshots,
    /// A row per directory in which a process used files.
    Directories,
    /// A row per application attempt.
    SparkApps,
    /// A row per executor.
    SparkExecutors,
    /// A row per job.
    SparkJobs,
    /// A row per stage attempt.
    SparkStages,
    /// A row per task attempt that the event log tells of.
    SparkTasks,
    /// A row per SQL execution.
    SparkSql,
}

impl Table {
    /// Every table, those that others belong to first.
    pub const ALL: [Table; 13] = [
        Table::Processes,
        Table::Threads,
        Table::Tasks,
        Table::Notices,
        Table::Segments,
        Table::Snapshots,
        Table::Directories,
        Table::SparkApps,
        Table::SparkExecutors,
        Table::SparkJobs,
        Table::SparkStages,
        Table::SparkTasks,
        Table::SparkSql,
    ];

    /// The table whose rows this one's belong to: processes or applications; itself for those two.
    pub fn head(self) -> Table {
        match self {
            Table::Processes
            | Table::Threads
            | Table::Tasks
            | Table::Notices
            | Table::Segments
            | Table::Snapshots
            | Table::Directories => Table::Processes,
            _ => Table::SparkApps,
        }
    }

    /// The tables of processes.
    pub fn of_processes() -> impl Iterator<Item = Table> {
        Table::ALL.into_iter().filter(|table| table.head() == Table::Processes)
    }

    /// The table's name: its folder.
    pub fn name(self) -> &'static str {
        match self {
            Table::Processes => "processes",
            Table::Threads => "threads",
            Table::Tasks => "tasks",
            Table::Notices => "notices",
            Table::Segments => "segments",
            Table::Snapshots => "snapshots",
            Table::Directories => "directories",
            Table::SparkApps => "spark_apps",
            Table::SparkExecutors => "spark_executors",
            Table::SparkJobs => "spark_jobs",
            Table::SparkStages => "spark_stages",
            Table::SparkTasks => "spark_tasks",
            Table::SparkSql => "spark_sql",
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// 64 bits with a sign.
    Signed,
    /// 64 bits without a sign.
    Unsigned,
    /// Yes or no.
    Truth,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Text, Kind::Signed, Kind::Unsigned, Kind::Truth];

    /// Of what data its columns are.
    pub fn data_type(self) -> DataType {
        match self {
            Kind::Text => DataType::String,
            Kind::Signed => DataType::Int64,
            Kind::Unsigned => DataType::UInt64,
            Kind::Truth => DataType::Boolean,
        }
    }
}
