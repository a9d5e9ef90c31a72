//! What a reader should know besides the figures: what is missing, what was left out, what went wrong.

use std::collections::{BTreeMap, BTreeSet};

/// Remarks on a report, collected while it is made.
#[derive(Debug, Default)]
pub struct Notes {
    rows_left_out: Option<(usize, usize)>,
    left_out_roles: BTreeMap<String, u64>,
    tasks_without_start: u64,
    open_tasks: u64,
    late_tasks: u64,
    closed_tasks: u64,
    python_records: u64,
    open_processes: u64,
    ended_workers: u64,
    missing_segments: u64,
    left_out_bytes: u64,
    /// Application -> tasks with a record that its event log does not have.
    unlogged_tasks: BTreeMap<String, u64>,
    apps_without_log: BTreeSet<String>,
    /// Application -> tasks of its event log without a record.
    unrecorded_tasks: BTreeMap<String, u64>,
    logs_without_records: BTreeSet<String>,
    /// Notice -> how often, and the first one's text.
    notices: BTreeMap<String, (u64, String)>,
}

impl Notes {
    /// So many rows of all are not shown, as the user asked.
    pub fn rows_left_out(&mut self, count: usize, all: usize) {
        self.rows_left_out = Some((count, all));
    }

    /// A process was left out for its role.
    pub fn left_out_role(&mut self, role: &str) {
        *self.left_out_roles.entry(role.to_owned()).or_default() += 1;
    }

    /// Records of so many tasks lack their start or end, were seen late, or were closed by something else.
    pub fn tasks(&mut self, without_start: u64, open: u64, late: u64, closed: u64) {
        self.tasks_without_start += without_start;
        self.open_tasks += open;
        self.late_tasks += late;
        self.closed_tasks += closed;
    }

    /// So many records tell of Python workers that served tasks.
    pub fn python_records(&mut self, records: u64) {
        self.python_records += records;
    }

    /// A process took part.
    pub fn process(
        &mut self,
        is_final: bool,
        is_python: bool,
        missing_segments: u64,
        left_out_bytes: u64,
    ) {
        self.open_processes += u64::from(!is_final && !is_python);
        self.ended_workers += u64::from(!is_final && is_python);
        self.missing_segments += missing_segments;
        self.left_out_bytes += left_out_bytes;
    }

    /// Tasks with a record are in no event log.
    pub fn unlogged_tasks(&mut self, application: &str, has_log: bool, tasks: u64) {
        if has_log {
            *self.unlogged_tasks.entry(application.to_owned()).or_default() += tasks;
        } else {
            self.apps_without_log.insert(application.to_owned());
        }
    }

    /// Tasks of an event log have no record.
    pub fn unrecorded_tasks(&mut self, application: &str, tasks: u64) {
        *self.unrecorded_tasks.entry(application.to_owned()).or_default() += tasks;
    }

    /// An application has an event log and not one record.
    pub fn log_without_records(&mut self, application: &str) {
        self.logs_without_records.insert(application.to_owned());
    }

    /// The writer of the records remarked something.
    pub fn notice(&mut self, name: &str, text: String) {
        let entry = self.notices.entry(name.to_owned()).or_insert((0, text));
        entry.0 += 1;
    }

    /// The remarks as sentences.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((count, all)) = self.rows_left_out {
            lines.push(format!(
                "{count} of {all} rows are not shown (--where, --top); the total is that of the others"
            ));
        }
        let roles: Vec<_> =
            self.left_out_roles.iter().map(|(role, count)| format!("{count} {role}")).collect();
        if !roles.is_empty() {
            lines.push(format!(
                "left out, as they are no executors: processes of role {} (--roles all shows them)",
                roles.join(", ")
            ));
        }
        let list = |ids: &BTreeSet<String>| ids.iter().cloned().collect::<Vec<_>>().join(", ");
        if !self.apps_without_log.is_empty() {
            lines.push(format!(
                "no event log of {} in the store: Spark's own figures are unknown (ingest --event-log)",
                list(&self.apps_without_log)
            ));
        }
        if !self.logs_without_records.is_empty() {
            lines.push(format!(
                "left out, as they have an event log but no records: {} (--app shows them)",
                list(&self.logs_without_records)
            ));
        }
        for (application, count) in &self.unlogged_tasks {
            lines.push(format!(
                "{application}: {count} recorded task attempts are not in the event log (is it cut?); \
                 Spark's figures lack them"
            ));
        }
        for (application, count) in &self.unrecorded_tasks {
            lines.push(format!(
                "{application}: {count} task attempts of the event log have no record; our figures \
                 lack them"
            ));
        }
        let mut count = |count: u64, text: &str| {
            if count > 0 {
                lines.push(format!("{count} {text}"));
            }
        };
        count(
            self.tasks_without_start,
            "recorded task attempts lack their start record: what they did is outside tasks",
        );
        count(
            self.open_tasks,
            "recorded task attempts had not ended: counted up to the last record",
        );
        count(
            self.late_tasks,
            "task attempts were seen late: what they did before is outside tasks",
        );
        count(
            self.closed_tasks,
            "task attempts were closed by the next task or the thread's end, their own end unseen",
        );
        count(
            self.python_records,
            "records of Python workers add to their tasks (--columns python_instructions: of which)",
        );
        count(
            self.open_processes,
            "processes run still or were killed: counted up to their last records",
        );
        count(
            self.ended_workers,
            "Python daemons and workers have no last record, as Spark kills them when it is done: counted up to the one \
             before, at most a snapshot interval earlier",
        );
        count(self.missing_segments, "record files are missing; totals hold, tasks may be missing");
        count(self.left_out_bytes, "bytes of record files could not be used");
        for (name, (count, text)) in &self.notices {
            let text = if text.is_empty() { String::new() } else { format!(", such as: {text}") };
            lines.push(format!("{count} notices {name}{text}"));
        }
        lines
    }
}
