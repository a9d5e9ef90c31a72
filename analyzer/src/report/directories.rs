//! In which directories processes read and wrote files.

use std::collections::HashMap;

use records::metric::Class;
use records::{METRIC_COUNT, METRICS, MetricSet};

use crate::report::rated::{read, text};
use crate::report::rows::Counted;
use crate::store::{Store, StoreError, Table};

/// The row of what is of no directory: sockets, pipes, devices, and everything that is no system call.
pub const NO_DIRECTORY: &str = "(no directory)";
/// The setting in force where directories are told apart; records of version 1 do not have it.
const SETTING: &str = "per_directory = true";

/// Whether a process's settings say that its directories are told apart.
pub fn are_told(settings: Option<&str>) -> bool {
    settings.is_some_and(|text| text.lines().any(|line| line == SETTING))
}

/// The directories of all processes.
#[derive(Debug, Default)]
pub struct Directories {
    of: HashMap<String, Vec<(String, Counted)>>,
}

impl Directories {
    /// Reads them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &dyn Store) -> Result<Directories, StoreError> {
        let mut directories = Directories::default();
        let Some(frame) = read(store, Table::Directories)? else { return Ok(directories) };
        let (processes, names) = (frame.column("process_id")?, frame.column("directory")?);
        let files = MetricSet::class(Class::File);
        let mut columns = Vec::new();
        for (index, metric) in METRICS.iter().enumerate().filter(|(at, _)| files.contains(*at)) {
            columns.push((index, frame.column(metric.name)?.u64()?));
        }
        for at in 0..frame.height() {
            let mut values = [None; METRIC_COUNT];
            for (index, column) in &columns {
                values[*index] = column.get(at);
            }
            let counted = Counted { values, is_partial: false, is_exact: false };
            let of = directories.of.entry(text(processes, at).unwrap_or_default()).or_default();
            of.push((text(names, at).unwrap_or_default(), counted));
        }
        Ok(directories)
    }

    /// Those of a process.
    pub fn take(&mut self, process: &str) -> Vec<(String, Counted)> {
        self.of.remove(process).unwrap_or_default()
    }
}
