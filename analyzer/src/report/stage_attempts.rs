//! Which attempt of its stage a task belongs to, where a record of it does not know: a Python worker is told the stage
//! alone. The task's own record, of the executor's thread, knows both.

use std::collections::HashMap;

use polars::prelude::DataFrame;

use crate::report::accumulate::Selected;
use crate::report::rows::Share;
use crate::store::{Store, StoreError, Table};

/// The columns that are looked at.
const COLUMNS: [&str; 6] =
    ["process_id", "application_id", "application_attempt", "task_id", "stage_attempt", "method"];

/// Attempts of stages, by application, its attempt, and TID.
#[derive(Debug, Default)]
pub struct StageAttempts(HashMap<String, Vec<OfAttempt>>);

/// An application's attempt, and the stages' attempts of its tasks that are asked for, by TID.
type OfAttempt = (Option<String>, HashMap<i64, Option<i64>>);

/// What takes a table's frames.
type Each<'e> = &'e mut dyn FnMut(DataFrame) -> Result<(), StoreError>;

impl StageAttempts {
    /// Reads the tasks whose records lack it, then those that have it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(
        store: &dyn Store,
        applications: &[String],
        processes: &Selected<'_>,
    ) -> Result<StageAttempts, StoreError> {
        StageAttempts::of_frames(processes, &mut |each| {
            store.scan(Table::Tasks, Some(&COLUMNS), applications, each)
        })
    }

    /// As [`StageAttempts::read`], of the frames that `scan` gives each time it is called.
    ///
    /// # Errors
    /// What `scan` says, or that the frames are of another table.
    pub fn of_frames(
        processes: &Selected<'_>,
        scan: &mut dyn FnMut(Each<'_>) -> Result<(), StoreError>,
    ) -> Result<StageAttempts, StoreError> {
        let mut attempts = StageAttempts::default();
        scan(&mut |frame| attempts.take(processes, &frame, true))?;
        if !attempts.0.is_empty() {
            scan(&mut |frame| attempts.take(processes, &frame, false))?;
        }
        Ok(attempts)
    }

    /// Takes which tasks are asked for (`further`), or what their own records say.
    fn take(
        &mut self,
        processes: &Selected<'_>,
        frame: &DataFrame,
        further: bool,
    ) -> Result<(), StoreError> {
        let text = |name: &str| frame.column(name)?.str();
        let number = |name: &str| frame.column(name)?.i64();
        let (applications, attempts) = (text("application_id")?, text("application_attempt")?);
        let (task_ids, methods) = (number("task_id")?, text("method")?);
        let stage_attempts = number("stage_attempt")?;
        let ids = text("process_id")?;
        for at in 0..frame.height() {
            let known = stage_attempts.get(at);
            let is_further = Share::of(methods.get(at)).is_further();
            // In local mode a worker's records do not name the application.
            let process = || ids.get(at).and_then(|id| processes.get(id));
            let application =
                applications.get(at).or_else(|| process().and_then(|one| one.id.as_deref()));
            let (Some(application), Some(task_id)) = (application, task_ids.get(at)) else {
                continue;
            };
            if is_further != further || known.is_none() != further {
                continue;
            }
            if further {
                self.wanted(application, attempts.get(at)).insert(task_id, None);
            } else if let Some(found) = self
                .0
                .get_mut(application)
                .and_then(|all| all.iter_mut().find(|(one, _)| one.as_deref() == attempts.get(at)))
                .and_then(|(_, tasks)| tasks.get_mut(&task_id))
            {
                *found = known.max(*found);
            }
        }
        Ok(())
    }

    fn wanted(
        &mut self,
        application: &str,
        attempt: Option<&str>,
    ) -> &mut HashMap<i64, Option<i64>> {
        let all = self.0.entry(application.to_owned()).or_default();
        let place = all.iter().position(|(one, _)| one.as_deref() == attempt).unwrap_or(all.len());
        if place == all.len() {
            all.push((attempt.map(str::to_owned), HashMap::new()));
        }
        &mut all[place].1
    }

    /// The stage's attempt of a task.
    pub fn of(&self, application: &str, attempt: Option<&str>, task_id: i64) -> Option<i64> {
        let all = self.0.get(application)?;
        let (_, tasks) = all.iter().find(|(one, _)| one.as_deref() == attempt)?;
        *tasks.get(&task_id)?
    }
}
