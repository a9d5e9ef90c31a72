//! Which job ran which stage.

use std::collections::{BTreeMap, HashMap};

use super::rated::{read, text};
use crate::store::{Store, StoreError, Table};

/// A job of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Application id.
    pub application: String,
    /// Job id.
    pub job: i64,
    /// All stages that it needs, also those that it found done.
    pub stages: Vec<i64>,
    /// First and last ms since the epoch.
    times: (Option<i64>, Option<i64>),
}

/// The jobs of all event logs.
#[derive(Clone, Debug, Default)]
pub struct Jobs {
    /// In the order of the store.
    pub all: Vec<Job>,
    /// (application, stage) -> indices of the jobs that list it, the first one first.
    listing: HashMap<(String, i64), Vec<usize>>,
    /// (application, stage, attempt) -> when it was submitted, ms since the epoch.
    submitted: HashMap<(String, i64, i64), i64>,
    /// (application, stage, attempt) -> the stages whose output it reads; all stages of the event logs are in it.
    pub parents: BTreeMap<(String, i64, i64), Vec<i64>>,
}

impl Jobs {
    /// Reads them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &dyn Store) -> Result<Jobs, StoreError> {
        let mut jobs = Jobs::default();
        if let Some(frame) = read(store, Table::SparkJobs)? {
            for at in 0..frame.height() {
                let number = |name| frame.column(name).ok()?.i64().ok()?.get(at);
                let of = |name| text(frame.column(name).ok()?, at);
                let (Some(application), Some(job)) = (of("application_id"), number("job")) else {
                    continue;
                };
                let stages = ids(of("stages"));
                let times = (number("submitted_ms"), number("completed_ms"));
                jobs.all.push(Job { application, job, stages, times });
            }
        }
        jobs.all.sort_by(|one, other| {
            (&one.application, one.job).cmp(&(&other.application, other.job))
        });
        for (index, job) in jobs.all.iter().enumerate() {
            for stage in &job.stages {
                let key = (job.application.clone(), *stage);
                jobs.listing.entry(key).or_default().push(index);
            }
        }
        if let Some(frame) = read(store, Table::SparkStages)? {
            for at in 0..frame.height() {
                let number = |name| frame.column(name).ok()?.i64().ok()?.get(at);
                let application = text(frame.column("application_id")?, at);
                let (Some(application), Some(stage), Some(attempt)) =
                    (application, number("stage"), number("stage_attempt"))
                else {
                    continue;
                };
                let key = (application, stage, attempt);
                if let Some(ms) = number("submitted_ms") {
                    jobs.submitted.insert(key.clone(), ms);
                }
                jobs.parents.insert(key, ids(text(frame.column("parents")?, at)));
            }
        }
        Ok(jobs)
    }

    /// The job that ran a stage attempt: of those that list the stage the first that ran when it was submitted.
    /// Later ones list it too and skip it, unless its output was lost.
    pub fn of(&self, application: &str, stage: (i64, Option<i64>)) -> Option<i64> {
        let listing = self.listing.get(&(application.to_owned(), stage.0))?;
        let key = (application.to_owned(), stage.0, stage.1.unwrap_or(0));
        let ran_then = |job: &&usize| {
            let (first, last) = self.all[**job].times;
            self.submitted.get(&key).is_none_or(|at| {
                first.is_none_or(|first| first <= *at) && last.is_none_or(|last| *at <= last)
            })
        };
        let index = listing.iter().find(ran_then).or_else(|| listing.first())?;
        Some(self.all[*index].job)
    }
}

/// The numbers of a list with commas.
fn ids(list: Option<String>) -> Vec<i64> {
    list.unwrap_or_default().split(',').filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_belongs_to_the_job_that_ran_then() {
        let job = |job, stages: &[i64], times: (i64, i64)| Job {
            application: "a".into(),
            job,
            stages: stages.to_vec(),
            times: (Some(times.0), Some(times.1)),
        };
        let key = |stage, attempt| ("a".to_owned(), stage, attempt);
        let jobs = Jobs {
            all: vec![job(0, &[0, 1], (10, 20)), job(1, &[1, 2], (30, 40))],
            listing: HashMap::from([
                (("a".into(), 0), vec![0]),
                (("a".into(), 1), vec![0, 1]),
                (("a".into(), 2), vec![1]),
            ]),
            submitted: HashMap::from([(key(1, 0), 15), (key(1, 1), 35), (key(2, 0), 39)]),
            parents: BTreeMap::new(),
        };
        assert_eq!(jobs.of("a", (1, Some(0))), Some(0));
        assert_eq!(jobs.of("a", (1, Some(1))), Some(1), "its output was lost");
        assert_eq!(jobs.of("a", (0, None)), Some(0), "when it was submitted is unknown");
        assert_eq!((jobs.of("a", (3, None)), jobs.of("b", (0, None))), (None, None));
    }
}
