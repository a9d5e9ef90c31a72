//! Which job ran which stage.

use std::collections::{BTreeMap, HashMap};

use crate::report::logs::Logs;

/// A job of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Application id.
    pub application: String,
    /// Job id.
    pub job: i64,
    /// The query that it is of.
    pub query: Option<i64>,
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
    /// Those of the logs.
    pub fn of_logs(logs: &Logs) -> Jobs {
        let mut jobs = Jobs::default();
        for ((application, job), facts) in &logs.jobs {
            for stage in &facts.stages {
                let key = (application.clone(), *stage);
                jobs.listing.entry(key).or_default().push(jobs.all.len());
            }
            jobs.all.push(Job {
                application: application.clone(),
                job: *job,
                query: facts.query,
                stages: facts.stages.clone(),
                times: (facts.submitted_ms, facts.completed_ms),
            });
        }
        for (key, stage) in &logs.stages {
            if let Some(ms) = stage.submitted_ms {
                jobs.submitted.insert(key.clone(), ms);
            }
            jobs.parents.insert(key.clone(), stage.parents.clone());
        }
        jobs
    }

    /// The job that ran a stage attempt: of those that list the stage the first that ran when it was submitted.
    /// Later ones list it too and skip it, unless its output was lost.
    pub fn of(&self, application: &str, stage: (i64, Option<i64>)) -> Option<i64> {
        self.that_ran(application, stage).map(|job| job.job)
    }

    /// The same with all that is known of the job.
    pub fn that_ran(&self, application: &str, stage: (i64, Option<i64>)) -> Option<&Job> {
        let listing = self.listing.get(&(application.to_owned(), stage.0))?;
        let key = (application.to_owned(), stage.0, stage.1.unwrap_or(0));
        let ran_then = |job: &&usize| {
            let (first, last) = self.all[**job].times;
            self.submitted.get(&key).is_none_or(|at| {
                first.is_none_or(|first| first <= *at) && last.is_none_or(|last| *at <= last)
            })
        };
        let index = listing.iter().find(ran_then).or_else(|| listing.first())?;
        Some(&self.all[*index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_belongs_to_the_job_that_ran_then() {
        let job = |job, stages: &[i64], times: (i64, i64)| Job {
            application: "a".into(),
            job,
            query: None,
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
