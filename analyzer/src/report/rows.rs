//! Rows: sums of figures by what the user asked for.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use records::metric::{Class, Op, Quantity, syscall_index};
use records::{METRIC_COUNT, METRICS};

use super::figure::Figure;
use crate::eventlog::{SPARK_METRICS, SparkMetrics};

/// By what rows are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Dimension {
    /// Application
    App,
    /// Node
    Node,
    /// Executor
    Executor,
    /// Process
    Process,
    /// Stage attempt
    Stage,
    /// Task attempt
    Task,
}

impl Dimension {
    /// The head of its column.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::App => "application",
            Dimension::Node => "node",
            Dimension::Executor => "executor",
            Dimension::Process => "process",
            Dimension::Stage => "stage",
            Dimension::Task => "task",
        }
    }
}

/// A name that sorts as people expect: `node-2` before `node-10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (mut one, mut two) = (self.0.as_str(), other.0.as_str());
        loop {
            let (in_one, in_two) = (digits(one), digits(two));
            if in_one > 0 && in_two > 0 {
                let (first, second) =
                    (one[..in_one].trim_start_matches('0'), two[..in_two].trim_start_matches('0'));
                let order = first.len().cmp(&second.len()).then_with(|| first.cmp(second));
                if order.is_ne() {
                    return order;
                }
                (one, two) = (&one[in_one..], &two[in_two..]);
                continue;
            }
            match (one.chars().next(), two.chars().next()) {
                (Some(first), Some(second)) if first == second => {
                    (one, two) = (&one[first.len_utf8()..], &two[second.len_utf8()..]);
                }
                (first, second) => {
                    return first.cmp(&second).then_with(|| self.0.cmp(&other.0));
                }
            }
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether a row is of tasks or of the rest of their processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Inside tasks.
    Tasks,
    /// Outside tasks.
    Outside,
}

impl Part {
    /// The part's name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Tasks => "tasks",
            Part::Outside => "outside tasks",
        }
    }
}

/// What tells a row apart; dimensions that were not asked for are `None`, as are unknown ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Application id.
    pub application: Option<Name>,
    /// Node name.
    pub node: Option<Name>,
    /// Executor id.
    pub executor: Option<Name>,
    /// Process id.
    pub process: Option<String>,
    /// Tasks before the rest.
    pub part: Part,
    /// Stage id and attempt.
    pub stage: Option<(i64, Option<i64>)>,
    /// TID.
    pub task: Option<i64>,
}

/// Where something ran.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Application id.
    pub application: Option<String>,
    /// Node name.
    pub node: Option<String>,
    /// Executor id.
    pub executor: Option<String>,
    /// Process id.
    pub process: Option<String>,
}

impl Key {
    /// The key of something at this place, in these dimensions.
    pub fn new(
        by: &[Dimension],
        place: &Place,
        part: Part,
        stage: Option<(i64, Option<i64>)>,
        task: Option<i64>,
    ) -> Key {
        let wanted = |dimension| by.contains(&dimension);
        let name =
            |dimension, name: &Option<String>| name.clone().filter(|_| wanted(dimension)).map(Name);
        Key {
            application: name(Dimension::App, &place.application),
            node: name(Dimension::Node, &place.node),
            executor: name(Dimension::Executor, &place.executor),
            process: place.process.clone().filter(|_| wanted(Dimension::Process)),
            part,
            stage: stage.filter(|_| wanted(Dimension::Stage)),
            task: task.filter(|_| wanted(Dimension::Task)),
        }
    }
}

impl Key {
    /// The same with fewer dimensions.
    fn projected(&self, by: &[Dimension]) -> Key {
        let wanted = |dimension| by.contains(&dimension);
        let name = |dimension, name: &Option<Name>| name.clone().filter(|_| wanted(dimension));
        Key {
            application: name(Dimension::App, &self.application),
            node: name(Dimension::Node, &self.node),
            executor: name(Dimension::Executor, &self.executor),
            process: self.process.clone().filter(|_| wanted(Dimension::Process)),
            part: self.part,
            stage: self.stage.filter(|_| wanted(Dimension::Stage)),
            task: self.task.filter(|_| wanted(Dimension::Task)),
        }
    }
}

/// A sum that knows what it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Sum of what is known.
    value: u64,
    is_known: bool,
    lacks: bool,
}

/// What can be said of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Exactly this.
    Exactly(u64),
    /// At least this: a part is unknown.
    AtLeast(u64),
    /// Nothing.
    Unknown,
}

impl Said {
    /// The number, if there is one.
    pub fn value(self) -> Option<u64> {
        match self {
            Said::Exactly(value) | Said::AtLeast(value) => Some(value),
            Said::Unknown => None,
        }
    }
}

impl Sum {
    /// Adds a value, or that there is one that is unknown.
    pub fn add(&mut self, value: Option<u64>) {
        match value {
            Some(value) => {
                self.value = self.value.saturating_add(value);
                self.is_known = true;
            }
            None => self.lacks = true,
        }
    }

    /// Adds a lower bound.
    pub fn add_lower_bound(&mut self, value: Option<u64>) {
        self.add(value);
        self.lacks = true;
    }

    fn join(&mut self, other: Sum) {
        self.value = self.value.saturating_add(other.value);
        self.is_known |= other.is_known;
        self.lacks |= other.lacks;
    }

    /// What it comes to. At least zero is nothing that anybody knows.
    pub fn said(self) -> Said {
        match (self.is_known, self.lacks) {
            (false, _) => Said::Unknown,
            (true, false) => Said::Exactly(self.value),
            (true, true) if self.value == 0 => Said::Unknown,
            (true, true) => Said::AtLeast(self.value),
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    tasks: u64,
    recorded_tasks: u64,
    failed_tasks: Sum,
    metrics: [Sum; METRIC_COUNT],
    spark: [Sum; SPARK_METRICS.len()],
}

impl Default for Row {
    fn default() -> Row {
        Row {
            tasks: 0,
            recorded_tasks: 0,
            failed_tasks: Sum::default(),
            metrics: [Sum::default(); METRIC_COUNT],
            spark: [Sum::default(); SPARK_METRICS.len()],
        }
    }
}

/// What is added to a row for a task.
pub struct TaskFigures<'a> {
    /// Our counters; `None` if there is no record of the task.
    pub counted: Option<&'a Counted>,
    /// Whether this row has the task already, from another record of it.
    pub is_repeated: bool,
    /// What the event log says; `None` if it says nothing of the task.
    pub spark: Option<&'a SparkSaid>,
}

/// Our counters of something.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The values.
    pub values: [Option<u64>; METRIC_COUNT],
    /// Whether the engine's values are lower bounds.
    pub is_partial: bool,
}

/// What the event log says of a task.
#[derive(Clone, Debug, Default)]
pub struct SparkSaid {
    /// Whether it failed or was killed; unknown for open ones.
    pub has_failed: Option<bool>,
    /// Spark's metrics; unknown for open tasks and lost executors.
    pub metrics: SparkMetrics,
}

impl Row {
    /// Adds a task.
    pub fn add_task(&mut self, task: &TaskFigures<'_>) {
        match task.counted {
            Some(counted) => self.add_counted(counted),
            None => self.metrics.iter_mut().for_each(|sum| sum.add(None)),
        }
        if task.is_repeated {
            return;
        }
        self.tasks += 1;
        self.recorded_tasks += u64::from(task.counted.is_some());
        self.failed_tasks.add(task.spark.and_then(|said| said.has_failed).map(u64::from));
        for (index, sum) in self.spark.iter_mut().enumerate() {
            sum.add(task.spark.and_then(|said| said.metrics[index]));
        }
    }

    /// Adds counters that are of no task.
    pub fn add_counted(&mut self, counted: &Counted) {
        for (index, sum) in self.metrics.iter_mut().enumerate() {
            if counted.is_partial && METRICS[index].is_engine() {
                sum.add_lower_bound(counted.values[index]);
            } else {
                sum.add(counted.values[index]);
            }
        }
    }

    /// Adds another row.
    pub fn join(&mut self, other: &Row) {
        self.tasks += other.tasks;
        self.recorded_tasks += other.recorded_tasks;
        self.failed_tasks.join(other.failed_tasks);
        for (sum, other) in self.metrics.iter_mut().zip(&other.metrics) {
            sum.join(*other);
        }
        for (sum, other) in self.spark.iter_mut().zip(&other.spark) {
            sum.join(*other);
        }
    }

    /// What the row says of a figure.
    pub fn said(&self, figure: Figure) -> Said {
        let over = |wanted: &dyn Fn(usize) -> bool| {
            let mut sum = Sum::default();
            (0..METRIC_COUNT).filter(|&index| wanted(index)).for_each(|index| {
                sum.join(self.metrics[index]);
            });
            sum.said()
        };
        match figure {
            Figure::Tasks => Said::Exactly(self.tasks),
            Figure::RecordedTasks => Said::Exactly(self.recorded_tasks),
            Figure::FailedTasks => self.failed_tasks.said(),
            Figure::Metric(index) => self.metrics[index].said(),
            Figure::OverClasses(op, quantity) => over(&|index| {
                Class::ALL.iter().any(|&class| syscall_index(class, op, quantity) == Some(index))
            }),
            Figure::OverAll(wanted) => over(&|index| {
                METRICS[index].syscall.is_some_and(|(_, _, quantity)| quantity == wanted)
            }),
            Figure::Incoming(class) => over(&|index| {
                [Op::Read, Op::Recv]
                    .iter()
                    .any(|&op| syscall_index(class, op, Quantity::Bytes) == Some(index))
            }),
            Figure::Outgoing(class) => over(&|index| {
                [Op::Write, Op::Send]
                    .iter()
                    .any(|&op| syscall_index(class, op, Quantity::Bytes) == Some(index))
            }),
            Figure::Spark(index) => self.spark[index].said(),
        }
    }
}

/// The rows of a report.
#[derive(Debug, Default)]
pub struct Rows {
    rows: BTreeMap<Key, Row>,
}

impl Rows {
    /// The row with this key.
    pub fn at(&mut self, key: Key) -> &mut Row {
        self.rows.entry(key).or_default()
    }

    /// All rows in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of fewer dimensions.
    pub fn projected(&self, by: &[Dimension]) -> Rows {
        let mut projected = Rows::default();
        for (key, row) in &self.rows {
            projected.at(key.projected(by)).join(row);
        }
        projected
    }

    /// The sum of all rows.
    pub fn total(&self) -> Row {
        let mut total = Row::default();
        self.rows.values().for_each(|row| total.join(row));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_never_zero() {
        let mut sum = Sum::default();
        assert_eq!(sum.said(), Said::Unknown);
        sum.add(None);
        assert_eq!(sum.said(), Said::Unknown);
        sum.add(Some(0));
        assert_eq!(sum.said(), Said::Unknown, "at least zero");
        sum.add(Some(3));
        assert_eq!(sum.said(), Said::AtLeast(3));
        let mut exact = Sum::default();
        exact.add(Some(0));
        assert_eq!(exact.said(), Said::Exactly(0));
        exact.add_lower_bound(Some(4));
        assert_eq!(exact.said(), Said::AtLeast(4));
    }

    #[test]
    fn names_sort_by_their_numbers() {
        let mut names = ["n10", "n9", "n9a", "n09", "127.0.0.2", "127.0.0.10", ""]
            .map(|name| Name(name.into()));
        names.sort();
        let names = names.map(|name| name.0);
        assert_eq!(names, ["", "127.0.0.2", "127.0.0.10", "n09", "n9", "n9a", "n10"]);
    }
}
