//! How a figure is spread over a stage's tasks, and which tasks are stragglers.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use crate::report::figure::{Figure, Scale};
use crate::report::key::{Key, Name, Part};
use crate::report::rows::{Rows, Said, between, total};

/// A task is a straggler if it has this many times the median (in percent; Spark's own limit for speculation).
const STRAGGLER_PERCENT: u128 = 150;
/// Stages with fewer tasks have no stragglers.
const FEWEST_TASKS: usize = 4;

/// (application, TID) -> first and last ms since the epoch.
pub type Times = HashMap<(String, i64), (i64, i64)>;

/// What is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A figure of the task.
    Of(Figure),
    /// How long it took, in ms.
    Duration,
}

/// A stage attempt of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageKey<'a> {
    /// Application id.
    pub application: Option<&'a Name>,
    /// Stage id.
    pub stage: i64,
    /// Attempt.
    pub attempt: Option<i64>,
}

/// How a measure is spread over the tasks of which it is exactly known. Percentiles are nearest-rank: each
/// is the value of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Tasks of which it is exactly known.
    pub known: usize,
    /// Tasks of which it is not.
    pub unknown: usize,
    /// Minimum, p25, median, p75, p95, maximum.
    pub points: [u64; 6],
    /// (TID, value) of the tasks far above the median, the largest first.
    pub stragglers: Vec<(i64, u64)>,
}

/// Names of [`Spread::points`].
pub const POINTS: [&str; 6] = ["min", "p25", "median", "p75", "p95", "max"];

impl Measure {
    /// The public name.
    pub fn name(self) -> String {
        match self {
            Measure::Of(figure) => figure.name(),
            Measure::Duration => "duration_ms".into(),
        }
    }

    /// A value as JSON.
    pub fn json(self, value: u64) -> Value {
        match self {
            Measure::Of(figure) => figure.json(value),
            Measure::Duration => json!(value),
        }
    }

    /// What it is counted in.
    pub fn scale(self) -> Scale {
        match self {
            Measure::Of(figure) => figure.scale(),
            Measure::Duration => Scale::Milliseconds,
        }
    }
}

impl Spread {
    /// The spread of values of tasks; `None` if not one is known.
    pub fn of(values: impl IntoIterator<Item = (i64, Option<u64>)>) -> Option<Spread> {
        let mut unknown = 0;
        let mut known: Vec<(u64, i64)> = Vec::new();
        for (task, value) in values {
            match value {
                Some(value) => known.push((value, task)),
                None => unknown += 1,
            }
        }
        known.sort_unstable();
        let rank = |percent: usize| {
            known.get((known.len() * percent).div_ceil(100).max(1) - 1).map(|(value, _)| *value)
        };
        let points = [0, 25, 50, 75, 95, 100].map(rank);
        let median = points[2]?;
        let limit = u128::from(median) * STRAGGLER_PERCENT;
        let is_straggler = |&&(value, _): &&(u64, i64)| u128::from(value) * 100 > limit;
        let stragglers = known.iter().rev().take_while(is_straggler);
        let stragglers = match known.len() {
            FEWEST_TASKS.. => stragglers.map(|&(value, task)| (task, value)).collect(),
            _ => Vec::new(),
        };
        let points = points.map(Option::unwrap_or_default);
        Some(Spread { known: known.len(), unknown, points, stragglers })
    }

    /// Maximum over median; `None` if the median is 0.
    pub fn skew(&self) -> Option<f64> {
        (self.points[2] > 0).then(|| self.points[5] as f64 / self.points[2] as f64)
    }
}

/// What is known of a task's measure: nothing but an exact value counts.
pub fn value(key: &Key, row: &super::rows::Row, times: &Times, measure: Measure) -> Option<u64> {
    match measure {
        Measure::Of(figure) => match row.said(figure) {
            Said::Exactly(value) => Some(value),
            Said::AtLeast(_) | Said::Unknown => None,
        },
        Measure::Duration => {
            let id = (key.application.as_ref()?.0.clone(), key.task?);
            let (start, end) = times.get(&id)?;
            between(*start, *end)
        }
    }
}

/// The spread of a measure in every stage; `rows` must be per application, stage and task.
pub fn of_stages<'a>(
    rows: &'a Rows,
    times: &Times,
    measure: Measure,
) -> BTreeMap<StageKey<'a>, Spread> {
    let mut values: BTreeMap<StageKey<'a>, Vec<(i64, Option<u64>)>> = BTreeMap::new();
    for (key, row) in rows.iter() {
        let (Part::Tasks, Some((stage, attempt)), Some(task)) = (key.part, key.stage, key.task)
        else {
            continue;
        };
        let stage = StageKey { application: key.application.as_ref(), stage, attempt };
        values.entry(stage).or_default().push((task, value(key, row, times, measure)));
    }
    let spread = |(stage, values)| Some((stage, Spread::of(values)?));
    values.into_iter().filter_map(spread).collect()
}

/// What makes a task a straggler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It took long for more work than others had: its data are more, or cost more.
    WorkAndTime,
    /// It took long for work like that of others: a slow or crowded node, or it waited.
    TimeAlone,
    /// It had more work, and took no longer than others.
    WorkAlone,
    /// It had more work; how long it took is unknown.
    WorkTimeUnknown,
    /// It took long; what work it had is unknown.
    TimeWorkUnknown,
    /// It was among the first on its executor, where classes are loaded and code is interpreted before it is compiled, and had no
    /// more data than others.
    WarmUp,
}

impl Cause {
    /// For people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cause::WorkAndTime => "more work, longer",
            Cause::TimeAlone => "longer for like work",
            Cause::WorkAlone => "more work, not longer",
            Cause::WorkTimeUnknown => "more work, time unknown",
            Cause::TimeWorkUnknown => "longer, work unknown",
            Cause::WarmUp => "warm-up of executor",
        }
    }
}

/// A straggler by instructions, by time, or by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Straggler {
    /// TID.
    pub task: i64,
    /// Why it is one.
    pub cause: Cause,
    /// Instructions and their median in the stage.
    pub work: Option<(u64, u64)>,
    /// Duration in ms and its median in the stage.
    pub time: Option<(u64, u64)>,
}

/// A task with what its place among others needs.
struct Placed<'a> {
    stage: StageKey<'a>,
    task: i64,
    is_first: bool,
    work: Option<u64>,
    time: Option<u64>,
    /// Records that it read, of input and shuffles.
    records: Option<u64>,
}

/// The tasks that an executor began with: those that started before any of its tasks had ended.
pub fn first_tasks(rows: &Rows, times: &Times) -> HashSet<(String, i64)> {
    type OfExecutor = Vec<((String, i64), (i64, i64))>;
    let mut executors: HashMap<(&str, Option<&str>, Option<&str>), OfExecutor> = HashMap::new();
    for (key, _) in rows.iter().filter(|(key, _)| key.part == Part::Tasks) {
        let (Some(application), Some(task)) = (&key.application, key.task) else { continue };
        let id = (application.0.clone(), task);
        let Some(of_task) = times.get(&id) else { continue };
        let executor = (
            application.0.as_str(),
            key.node.as_ref().map(|name| name.0.as_str()),
            key.executor.as_ref().map(|name| name.0.as_str()),
        );
        executors.entry(executor).or_default().push((id, *of_task));
    }
    let mut first = HashSet::new();
    for tasks in executors.into_values() {
        let first_end = tasks.iter().map(|(_, (_, end))| *end).min().unwrap_or(i64::MAX);
        let begun = tasks.into_iter().filter(|(_, (start, _))| *start < first_end);
        first.extend(begun.map(|(id, _)| id));
    }
    first
}

fn is_far_above(value: u64, median: u64) -> bool {
    u128::from(value) * 100 > u128::from(median) * STRAGGLER_PERCENT
}

/// The nearest-rank median.
pub fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get((values.len().max(1) - 1) / 2).copied()
}

/// The stragglers of every stage by instructions and by time, apart: those that took longest first; `rows`
/// must be per application, stage, executor and task. Medians are of the tasks that are not an executor's first, where there
/// are some.
pub fn stragglers<'a>(rows: &'a Rows, times: &Times) -> BTreeMap<StageKey<'a>, Vec<Straggler>> {
    let first = first_tasks(rows, times);
    let work = Measure::Of(Figure::Metric(records::metric::INSTRUCTIONS));
    let read = ["spark_input_records", "spark_shuffle_read_records"];
    let read = read.map(|name| Figure::parse(name).ok());
    let mut stages: BTreeMap<StageKey<'a>, Vec<Placed<'a>>> = BTreeMap::new();
    for (key, row) in rows.iter() {
        let (Part::Tasks, Some((stage, attempt)), Some(task)) = (key.part, key.stage, key.task)
        else {
            continue;
        };
        let stage = StageKey { application: key.application.as_ref(), stage, attempt };
        let id = key.application.as_ref().map(|name| (name.0.clone(), task));
        let records = read.map(|figure| row.said(figure?).value());
        let records =
            records.iter().any(Option::is_some).then(|| total(records.into_iter().flatten()));
        stages.entry(stage).or_default().push(Placed {
            stage,
            task,
            is_first: id.is_some_and(|id| first.contains(&id)),
            work: value(key, row, times, work),
            time: value(key, row, times, Measure::Duration),
            records,
        });
    }
    let mut found: BTreeMap<StageKey<'a>, Vec<Straggler>> = BTreeMap::new();
    for tasks in stages.values().filter(|tasks| tasks.len() >= FEWEST_TASKS) {
        // What is compared with: the tasks that came later, if there are any.
        let of = |value: &dyn Fn(&Placed<'_>) -> Option<u64>| {
            let later = tasks.iter().filter(|task| !task.is_first).filter_map(value);
            median(later.collect()).or_else(|| median(tasks.iter().filter_map(value).collect()))
        };
        let (works, durations) = (of(&|task| task.work), of(&|task| task.time));
        let records = of(&|task| task.records);
        for task in tasks {
            let far = |value: Option<u64>, median: Option<u64>| {
                value.zip(median).filter(|(value, median)| is_far_above(*value, *median))
            };
            let (work, time) = (far(task.work, works), far(task.time, durations));
            let is_alike = far(task.records, records).is_none();
            let cause = match (work, time) {
                (None, None) => continue,
                _ if task.is_first && is_alike => Cause::WarmUp,
                (Some(_), Some(_)) => Cause::WorkAndTime,
                (Some(_), None) if task.time.is_none() => Cause::WorkTimeUnknown,
                (Some(_), None) => Cause::WorkAlone,
                (None, Some(_)) if task.work.is_some() => Cause::TimeAlone,
                (None, Some(_)) => Cause::TimeWorkUnknown,
            };
            let one = Straggler { task: task.task, cause, work, time };
            found.entry(task.stage).or_default().push(one);
        }
    }
    for all in found.values_mut() {
        all.sort_by_key(|one| {
            (one.cause, std::cmp::Reverse((one.time.map(|time| time.0), one.work)))
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[u64]) -> Spread {
        let tasks = values.iter().enumerate().map(|(task, &value)| (task as i64, Some(value)));
        Spread::of(tasks).unwrap()
    }

    #[test]
    fn percentiles_are_values_of_tasks() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(spread(&hundred).points, [1, 25, 50, 75, 95, 100]);
        assert_eq!(spread(&[7]).points, [7; 6]);
        assert_eq!(spread(&[1, 2]).points, [1, 1, 1, 2, 2, 2]);
        assert_eq!(spread(&[1, 2, 3]).points, [1, 1, 2, 3, 3, 3]);
        let large = [u64::MAX, u64::MAX - 1, 1, 2, u64::MAX - 2];
        assert_eq!(spread(&large).points[2..4], [u64::MAX - 2, u64::MAX - 1]);
    }

    #[test]
    fn stragglers_are_far_above_the_median() {
        let found = spread(&[10, 10, 15, 16, 10, 40]);
        assert_eq!(found.points[2], 10);
        assert_eq!(found.stragglers, [(5, 40), (3, 16)]);
        assert_eq!(found.skew(), Some(4.0));
        assert!(spread(&[1, 1, 100]).stragglers.is_empty(), "too few tasks");
        assert_eq!(spread(&[0, 0, 0, 5]).skew(), None);
    }

    #[test]
    fn unknown_values_are_counted_apart() {
        let found = Spread::of([(1, None), (2, Some(4)), (3, None)]).unwrap();
        assert_eq!((found.known, found.unknown), (1, 2));
        assert_eq!(Spread::of([(1, None)]), None);
    }

    #[test]
    fn more_work_and_longer_time_are_told_apart() {
        use crate::input::eventlog::SPARK_METRICS;
        use crate::report::key::{Dimension, Part, Place};
        use crate::report::rows::{Counted, Share, SparkSaid, TaskFigures};
        let mut rows = Rows::default();
        let mut times = HashMap::new();
        // (instructions, ms, records, executor); the first one of each executor begins at once.
        let tasks = [
            (80, Some(70), 10, "1"),
            (10, Some(5), 10, "1"),
            (10, Some(5), 10, "1"),
            (10, Some(5), 10, "1"),
            (10, Some(5), 10, "1"),
            (90, Some(50), 90, "1"),
            (10, Some(60), 10, "1"),
            (80, Some(5), 10, "1"),
            (80, None, 10, "1"),
            (95, Some(75), 90, "2"),
        ];
        let records = SPARK_METRICS.iter().position(|one| *one == "input_records").unwrap();
        let mut start = 1000;
        for (tid, (instructions, ms, read, executor)) in (0..).zip(tasks) {
            let place = Place {
                application: Some("a".into()),
                executor: Some(executor.into()),
                stage: Some((1, Some(0))),
                task: Some(tid),
                ..Place::default()
            };
            let by = [Dimension::App, Dimension::Executor, Dimension::Stage, Dimension::Task];
            let mut values = [None; records::METRIC_COUNT];
            values[records::metric::INSTRUCTIONS] = Some(instructions);
            let counted = Counted { values, is_partial: false, is_exact: true };
            let mut said = SparkSaid::default();
            said.metrics[records] = Some(read);
            let figures = TaskFigures {
                counted: &counted,
                is_repeated: false,
                share: Share::Own,
                spark: Some(&said),
            };
            rows.at(Key::new(&by, &place, Part::Tasks)).add_task(&figures);
            if let Some(ms) = ms {
                times.insert(("a".to_owned(), tid), (start, start + ms));
                start += ms;
            }
        }
        let found = stragglers(&rows, &times);
        let of_stage: Vec<_> =
            found.values().next().unwrap().iter().map(|s| (s.task, s.cause)).collect();
        assert_eq!(
            of_stage,
            [
                (9, Cause::WorkAndTime),
                (5, Cause::WorkAndTime),
                (6, Cause::TimeAlone),
                (7, Cause::WorkAlone),
                (8, Cause::WorkTimeUnknown),
                (0, Cause::WarmUp),
            ],
            "an executor's first task is skew only if it had more data"
        );
        assert_eq!(found.values().next().unwrap()[5].work, Some((80, 10)));
    }
}
