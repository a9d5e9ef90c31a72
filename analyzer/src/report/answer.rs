//! The answer that reports print.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::report::figure::Scale;
use crate::report::jobs::Jobs;
use crate::report::logs::Logs;
use crate::report::notes::Notes;
use crate::report::rows::{Row, Rows};
use crate::report::stage_names::StageNames;
use crate::report::task_facts::TaskFacts;
use crate::report::words::human;

/// The answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The rows.
    pub rows: Rows,
    /// Which job ran which stage.
    pub jobs: Jobs,
    /// Totals of the processes as their records say, to reconcile with.
    pub process_totals: Row,
    /// What a reader should know besides.
    pub notes: Notes,
    /// What stage attempts of the event logs are called.
    pub stage_names: StageNames,
    /// What event logs say of applications, executors, jobs, stages and queries.
    pub logs: Logs,
    /// Application id -> the name that its user gave it.
    pub application_names: BTreeMap<String, String>,
    /// (application, TID) -> first and last ms since the epoch, on the driver's clock if the event log has the
    /// task, else on its node's.
    pub task_times: HashMap<(String, i64), (i64, i64)>,
    /// Single tasks, if they were asked for.
    pub tasks: Option<TaskFacts>,
    /// What counting wrote, of these processes.
    pub written: Written,
    /// All application ids in the store.
    pub known_applications: BTreeSet<String>,
}

impl Answer {
    /// What reports call the applications that have rows.
    pub fn applications(&self) -> Vec<String> {
        let all = self.rows.iter().filter_map(|(key, _)| Some(key.application.as_ref()?.0.clone()));
        let all: BTreeSet<_> = all.collect();
        all.into_iter().collect()
    }
}

/// What counting cost, as far as records know: files and their bytes. They do not know processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Record files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Written {
    /// For people; nothing if there is no file.
    pub fn line(self) -> Option<String> {
        let bytes = human(self.bytes, Scale::Bytes);
        let files = if self.files == 1 { "file" } else { "files" };
        (self.files > 0).then(|| {
            format!(
                "Counting wrote {bytes} in {} record {files}; what it cost in processor time is not in records: \
                 compare with a run without it.",
                self.files
            )
        })
    }
}
