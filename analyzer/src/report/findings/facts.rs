//! What rules look at.

use std::collections::{BTreeMap, HashSet};

use crate::input::eventlog::SPARK_METRICS;
use records::metric::INSTRUCTIONS;

use crate::report::answer::Answer;
use crate::report::figure::Figure;
use crate::report::key::Part;
use crate::report::logs::{App, ExecutorFacts, StageFacts};
use crate::report::rows::{Row, Said, between, total_known};
use crate::report::spread::median;
use crate::report::stage_names::StageName;
use crate::report::task_facts::{TaskFact, TaskFacts};

/// An application with all that rules look at.
pub struct Facts<'a> {
    /// What reports call it.
    pub application: &'a str,
    /// What the event log says of it.
    pub app: Option<&'a App>,
    /// Its executors.
    pub executors: Vec<(&'a str, &'a ExecutorFacts)>,
    /// Its stages' attempts.
    pub stages: Vec<Stage<'a>>,
    /// All of its tasks.
    pub in_tasks: Row,
    /// What is outside tasks.
    pub outside: Row,
    /// From its start to its end, or to its last task, in ms.
    pub wall_ms: Option<u64>,
    /// Cores of its executors that were there at the same time, at most.
    pub cores: Option<u64>,
    /// Instructions of all tasks, as far as they are known.
    pub instructions: Option<u64>,
    /// All that the report knows.
    pub answer: &'a Answer,
    /// TIDs of the first tasks of each executor.
    pub first: HashSet<i64>,
}

/// A stage's attempt.
pub struct Stage<'a> {
    /// Id and attempt.
    pub id: (i64, Option<i64>),
    /// What it is called.
    pub name: Option<&'a StageName>,
    /// What the event log says of it.
    pub log: Option<&'a StageFacts>,
    /// The sums over its tasks.
    pub row: Row,
    /// Its tasks, if they are listed.
    pub tasks: Vec<&'a TaskFact>,
}

/// The place of a metric of Spark's.
pub fn spark(name: &str) -> usize {
    SPARK_METRICS.iter().position(|one| *one == name).expect("the names below are metrics")
}

impl Stage<'_> {
    /// A figure of its sum, if it is exactly known.
    pub fn exact(&self, name: &str) -> Option<u64> {
        exact(&self.row, name)
    }

    /// From its submission to its completion, or from the first task's start to the last one's end, in ms.
    pub fn wall_ms(&self) -> Option<u64> {
        let logged = self.log.and_then(|log| log.completed_ms.zip(log.submitted_ms));
        let (end, start) = logged.or_else(|| {
            let times = || self.tasks.iter().filter_map(|task| task.times);
            Some((times().map(|(_, end)| end).max()?, times().map(|(start, _)| start).min()?))
        })?;
        between(start, end)
    }

    /// Its tasks that were of use.
    pub fn useful(&self) -> impl Iterator<Item = &TaskFact> {
        self.tasks.iter().copied().filter(|task| task.has_succeeded())
    }

    /// The time of all its tasks, in ms.
    pub fn task_ms(&self) -> Option<u64> {
        let durations = self.tasks.iter().map(|task| task.duration());
        total_known(durations).filter(|_| !self.tasks.is_empty())
    }

    /// The largest and the median of its tasks' instructions, or else of their durations, as a ratio in hundredths.
    pub fn skew(&self) -> Option<u64> {
        let of = |value: &dyn Fn(&TaskFact) -> Option<u64>| {
            let all: Option<Vec<u64>> = self.useful().map(value).collect();
            let all = all.filter(|all| all.len() > 1)?;
            let most = *all.iter().max()?;
            let middle = median(all).filter(|middle| *middle > 0)?;
            u64::try_from(u128::from(most) * 100 / u128::from(middle)).ok()
        };
        of(&TaskFact::instructions).or_else(|| of(&TaskFact::duration))
    }
}

/// A figure of a row, if it is exactly known.
pub fn exact(row: &Row, name: &str) -> Option<u64> {
    match row.said(Figure::parse(name).ok()?) {
        Said::Exactly(value) => Some(value),
        Said::AtLeast(_) | Said::Unknown => None,
    }
}

impl<'a> Facts<'a> {
    /// Those of an application; the answer's rows must be per application and stage, at least.
    pub fn of(answer: &'a Answer, application: &'a str) -> Facts<'a> {
        let app = answer.logs.apps.get(application);
        let mut stages: BTreeMap<(i64, Option<i64>), Stage<'a>> = BTreeMap::new();
        let (mut in_tasks, mut outside) = (Row::default(), Row::default());
        let stage_of = |id: (i64, Option<i64>)| {
            let key = (application.to_owned(), id.0, id.1.unwrap_or(0));
            Stage {
                id,
                name: answer.stage_names.get(&key),
                log: answer.logs.stages.get(&key),
                row: Row::default(),
                tasks: Vec::new(),
            }
        };
        for (key, row) in answer.rows.iter() {
            if key.application.as_ref().is_none_or(|name| name.0 != application) {
                continue;
            }
            match key.part {
                Part::Tasks => in_tasks.join(row),
                _ => outside.join(row),
            }
            if let (Part::Tasks, Some(id)) = (key.part, key.stage) {
                stages.entry(id).or_insert_with(|| stage_of(id)).row.join(row);
            }
        }
        let empty = &[][..];
        let listed: &[TaskFact] = answer.tasks.as_ref().map_or(empty, |tasks| &tasks.all);
        let number = answer.tasks.as_ref().and_then(|tasks| tasks.number(application));
        let is_own = |task: &&TaskFact| Some(task.application) == number;
        let mut by_executor: BTreeMap<Option<u32>, Vec<(i64, i64, i64)>> = BTreeMap::new();
        let mut span: Option<(i64, i64)> = None;
        for task in listed.iter().filter(is_own) {
            if let Some(id) = task.stage {
                stages.entry(id).or_insert_with(|| stage_of(id)).tasks.push(task);
            }
            if let Some((start, end)) = task.times {
                by_executor.entry(task.executor).or_default().push((start, end, task.task));
                span = Some(
                    span.map_or((start, end), |(one, other)| (one.min(start), other.max(end))),
                );
            }
        }
        let mut first = HashSet::new();
        for tasks in by_executor.values() {
            let first_end = tasks.iter().map(|(_, end, _)| *end).min().unwrap_or(i64::MAX);
            first.extend(tasks.iter().filter(|(start, ..)| *start < first_end).map(|one| one.2));
        }
        let own = (application.to_owned(), String::new())..;
        let executors: Vec<_> = answer
            .logs
            .executors
            .range(own)
            .take_while(|((id, _), _)| id == application)
            .map(|((_, id), executor)| (id.as_str(), executor))
            .collect();
        let start = app.and_then(|app| app.started_ms).or(span.map(|(start, _)| start));
        let end = app.and_then(|app| app.ended_ms).or(span.map(|(_, end)| end));
        let wall_ms = end.zip(start).and_then(|(end, start)| between(start, end));
        let instructions = in_tasks.said(Figure::Metric(INSTRUCTIONS)).value();
        let cores = most_cores(&executors);
        let stages = stages.into_values().collect();
        Facts {
            application,
            app,
            executors,
            stages,
            in_tasks,
            outside,
            wall_ms,
            cores,
            instructions,
            answer,
            first,
        }
    }

    /// The tasks' list, which knows names.
    pub fn task_names(&self) -> Option<&'a TaskFacts> {
        self.answer.tasks.as_ref()
    }

    /// Time that so much task time takes at least, on all cores, in ms.
    pub fn on_all_cores(&self, task_ms: u64) -> u64 {
        task_ms / self.cores.unwrap_or(1).max(1)
    }

    /// Whether a time is so many percent of the application's.
    pub fn is_part(&self, ms: u64, percent: u64) -> bool {
        self.wall_ms
            .is_some_and(|wall| u128::from(ms) * 100 >= u128::from(wall) * u128::from(percent))
    }
}

/// How many cores of executors there were at the same time, at most.
fn most_cores(executors: &[(&str, &ExecutorFacts)]) -> Option<u64> {
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for (_, one) in executors {
        let Some(cores) = one.cores else { continue };
        changes.push((one.added_ms.unwrap_or(i64::MIN), cores));
        changes.extend(one.removed_ms.map(|ms| (ms, cores.saturating_neg())));
    }
    // Who leaves makes room for who comes at the same time.
    changes.sort_unstable();
    let (mut now, mut most) = (0_i64, 0_i64);
    for (_, change) in changes {
        now = now.saturating_add(change);
        most = most.max(now);
    }
    u64::try_from(most).ok().filter(|most| *most > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted_while_their_executors_live() {
        let executor = |cores, added_ms, removed_ms| ExecutorFacts {
            cores: Some(cores),
            added_ms: Some(added_ms),
            removed_ms,
            ..ExecutorFacts::default()
        };
        let (a, b, c) = (executor(2, 0, Some(10)), executor(3, 10, None), executor(1, 5, Some(6)));
        let driver = ExecutorFacts::default();
        assert_eq!(most_cores(&[("1", &a), ("2", &b), ("3", &c), ("driver", &driver)]), Some(3));
        assert_eq!(most_cores(&[("driver", &driver)]), None);
    }
}
