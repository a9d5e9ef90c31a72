//! Rows: sums of figures by what the user asked for.

use std::collections::BTreeMap;

use records::metric::{
    Class, INSTRUCTIONS, MEMORY_BYTES_READ, MEMORY_BYTES_WRITTEN, Op, Quantity, syscall_index,
};
use records::{METRIC_COUNT, METRICS, MetricSet, TaskMethod};

use crate::input::eventlog::{SPARK_METRICS, SparkMetrics};
use crate::report::figure::{Figure, LOCALITIES, MILLION, RATIOS, is_peak};
use crate::report::key::{Dimension, Key};
use crate::report::limits;

/// A sum that knows what it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Sum of what is known.
    value: u64,
    exact: u32,
    bounds: u32,
    unknown: u32,
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
                self.exact = self.exact.saturating_add(1);
            }
            None => self.unknown = self.unknown.saturating_add(1),
        }
    }

    /// Adds a lower bound.
    pub fn add_lower_bound(&mut self, value: Option<u64>) {
        match value {
            Some(value) => {
                self.value = self.value.saturating_add(value);
                self.bounds = self.bounds.saturating_add(1);
            }
            None => self.unknown = self.unknown.saturating_add(1),
        }
    }

    /// Adds many values at once: how many there are, how many of them are known, and the sum of these.
    fn add_many(&mut self, count: u32, known: u32, value: u64, are_bounds: bool) {
        self.value = self.value.saturating_add(value);
        let kind = if are_bounds { &mut self.bounds } else { &mut self.exact };
        *kind = kind.saturating_add(known);
        self.unknown = self.unknown.saturating_add(count - known);
    }

    /// Adds many values of which the largest is told.
    fn add_largest(&mut self, count: u32, known: u32, largest: u64) {
        self.value = self.value.max(largest);
        self.exact = self.exact.saturating_add(known);
        self.unknown = self.unknown.saturating_add(count - known);
    }

    /// Adds many values of which the least is told.
    fn add_least(&mut self, count: u32, known: u32, least: u64) {
        if known > 0 {
            self.value = if self.exact > 0 { self.value.min(least) } else { least };
        }
        self.exact = self.exact.saturating_add(known);
        self.unknown = self.unknown.saturating_add(count - known);
    }

    fn join_least(&mut self, other: Sum) {
        let least = match (self.exact > 0, other.exact > 0) {
            (true, true) => self.value.min(other.value),
            (true, false) => self.value,
            (false, _) => other.value,
        };
        self.join(other);
        self.value = least;
    }

    fn join_largest(&mut self, other: Sum) {
        let largest = self.value.max(other.value);
        self.join(other);
        self.value = largest;
    }

    fn join(&mut self, other: Sum) {
        self.value = self.value.saturating_add(other.value);
        self.exact = self.exact.saturating_add(other.exact);
        self.bounds = self.bounds.saturating_add(other.bounds);
        self.unknown = self.unknown.saturating_add(other.unknown);
    }

    /// What it comes to. At least zero is nothing that anybody knows.
    pub fn said(self) -> Said {
        match (self.exact + self.bounds > 0, self.bounds + self.unknown > 0) {
            (false, _) => Said::Unknown,
            (true, false) => Said::Exactly(self.value),
            (true, true) if self.value == 0 => Said::Unknown,
            (true, true) => Said::AtLeast(self.value),
        }
    }
}

/// Of how many parts (tasks, and rests of processes or threads) a figure is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completeness {
    /// Exactly.
    pub exact: u32,
    /// As a lower bound.
    pub at_least: u32,
    /// Not at all.
    pub unknown: u32,
}

impl Completeness {
    /// Whether it is neither known of all parts nor of none.
    pub fn is_partial(self) -> bool {
        self.exact + self.at_least > 0 && self.at_least + self.unknown > 0
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    tasks: u64,
    recorded_tasks: u64,
    exact_tasks: u64,
    failed_tasks: Sum,
    localities: [Sum; LOCALITIES.len()],
    /// When the first task was launched and the last one finished, ms since the epoch.
    first: Sum,
    last: Sum,
    metrics: [Sum; METRIC_COUNT],
    /// Those of the instructions that Python workers have executed.
    python: Sum,
    spark: [Sum; SPARK_METRICS.len()],
}

/// What of a task a record tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// What its own thread did: it stands for the task.
    #[default]
    Own,
    /// What a thread did that it has started.
    Thread,
    /// What its Python worker did.
    Python,
}

impl Share {
    /// What a record says that came by this method.
    pub fn of(method: Option<&str>) -> Share {
        match method {
            Some(name) if name == TaskMethod::TASK_THREAD.name() => Share::Thread,
            Some(name) if name == TaskMethod::PYTHON_WORKER.name() => Share::Python,
            _ => Share::Own,
        }
    }

    /// Whether it only adds to a task that has another record.
    pub fn is_further(self) -> bool {
        self != Share::Own
    }
}

impl Default for Row {
    fn default() -> Row {
        Row {
            tasks: 0,
            recorded_tasks: 0,
            exact_tasks: 0,
            failed_tasks: Sum::default(),
            localities: [Sum::default(); LOCALITIES.len()],
            first: Sum::default(),
            last: Sum::default(),
            metrics: [Sum::default(); METRIC_COUNT],
            python: Sum::default(),
            spark: [Sum::default(); SPARK_METRICS.len()],
        }
    }
}

/// What is added to a row for a task.
pub struct TaskFigures<'a> {
    /// Our counters.
    pub counted: &'a Counted,
    /// Whether this row has the task already, from another record of it.
    pub is_repeated: bool,
    /// What the record is of.
    pub share: Share,
    /// What the event log says; `None` if it says nothing of the task.
    pub spark: Option<&'a SparkSaid>,
}

/// Our counters of many tasks that are of one row and were counted alike.
#[derive(Clone, Debug)]
pub struct Run {
    /// How many tasks.
    pub tasks: u32,
    /// How many of them know each metric, and the sum over these.
    pub sums: [(u32, u64); METRIC_COUNT],
    /// Whether the engine's values are lower bounds.
    pub is_partial: bool,
    /// Whether the engine counted all of it.
    pub is_exact: bool,
}

/// What the event log says of many tasks.
#[derive(Clone, Debug, Default)]
pub struct SaidRun {
    /// How many tasks.
    pub tasks: u32,
    /// Of how many it is known whether they failed, and how many of these did.
    pub failed: (u32, u64),
    /// Of how many it is known how near their data they ran, and how many of these at each of [`LOCALITIES`].
    pub localities: (u32, [u64; LOCALITIES.len()]),
    /// Of how many it is known when they were launched and finished, the first and the last ms since the epoch.
    pub times: (u32, u64, u64),
    /// How many know each of Spark's metrics, and the sum over these (or the largest of them, see [`is_peak`]).
    pub metrics: [(u32, u64); SPARK_METRICS.len()],
}

impl SaidRun {
    /// Of one task.
    pub fn of(said: &SparkSaid) -> SaidRun {
        let pair = |value: Option<u64>| (u32::from(value.is_some()), value.unwrap_or(0));
        let at = |index| u64::from(said.locality == Some(index));
        SaidRun {
            tasks: 1,
            failed: pair(said.has_failed.map(u64::from)),
            localities: (u32::from(said.locality.is_some()), std::array::from_fn(at)),
            times: said.times.map_or((0, 0, 0), |(first, last)| (1, first, last)),
            metrics: said.metrics.map(pair),
        }
    }
}

/// Our counters of something.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The values.
    pub values: [Option<u64>; METRIC_COUNT],
    /// Whether the engine's values are lower bounds.
    pub is_partial: bool,
    /// Whether the engine counted all of it.
    pub is_exact: bool,
}

impl Counted {
    /// Takes away a part of it; never below 0, what a part does not know is unknown of the rest.
    pub fn subtract(&mut self, part: &[u64; METRIC_COUNT]) {
        for (value, part) in self.values.iter_mut().zip(part) {
            *value = value.and_then(|value| value.checked_sub(*part));
        }
    }

    /// Whether nothing is in it: every metric is 0 or was not counted at all.
    pub fn is_nothing(&self) -> bool {
        !self.is_partial && self.values.iter().all(|value| value.unwrap_or(0) == 0)
    }
}

/// What the event log says of a task.
#[derive(Clone, Debug, Default)]
pub struct SparkSaid {
    /// Whether it failed or was killed; unknown for open ones.
    pub has_failed: Option<bool>,
    /// How near its data it ran, as an index of [`LOCALITIES`].
    pub locality: Option<usize>,
    /// First and last ms since the epoch; unknown for open ones.
    pub times: Option<(u64, u64)>,
    /// Spark's metrics; unknown for open tasks and lost executors.
    pub metrics: SparkMetrics,
}

impl Row {
    /// Adds a task.
    pub fn add_task(&mut self, task: &TaskFigures<'_>) {
        self.add_counted(task.counted);
        if task.share == Share::Python {
            let instructions = task.counted.values[INSTRUCTIONS];
            match task.counted.is_partial {
                true => self.python.add_lower_bound(instructions),
                false => self.python.add(instructions),
            }
        }
        if task.is_repeated {
            return;
        }
        self.tasks += 1;
        self.recorded_tasks += 1;
        self.exact_tasks += u64::from(task.counted.is_exact);
        match task.spark {
            Some(said) => self.add_said(said),
            None => self.add_unsaid(1),
        }
    }

    /// Adds the counters of many tasks, or of what only adds to tasks that are there. What the event log says of them comes
    /// by [`Row::add_said_run`] and [`Row::add_unsaid`].
    pub fn add_run(&mut self, run: &Run, share: Share) {
        if share == Share::Python {
            let (known, value) = run.sums[INSTRUCTIONS];
            self.python.add_many(run.tasks, known, value, run.is_partial);
        }
        let tasks = if share.is_further() { 0 } else { u64::from(run.tasks) };
        self.tasks += tasks;
        self.recorded_tasks += tasks;
        self.exact_tasks += if run.is_exact { tasks } else { 0 };
        for (index, (sum, (known, value))) in self.metrics.iter_mut().zip(run.sums).enumerate() {
            let are_bounds = run.is_partial && METRICS[index].is_engine();
            sum.add_many(run.tasks, known, value, are_bounds);
        }
    }

    /// Adds tasks of which there is no record. What the event log says of them comes by [`Row::add_said_run`].
    pub fn add_unrecorded(&mut self, tasks: u32) {
        self.tasks += u64::from(tasks);
        self.metrics.iter_mut().for_each(|sum| sum.add_many(tasks, 0, 0, false));
    }

    /// Adds what the event log says of a task.
    pub fn add_said(&mut self, said: &SparkSaid) {
        self.add_said_run(&SaidRun::of(said));
    }

    /// Adds what the event log says of many tasks.
    pub fn add_said_run(&mut self, said: &SaidRun) {
        let add = |sum: &mut Sum, (known, value)| sum.add_many(said.tasks, known, value, false);
        let (known, localities) = said.localities;
        for (sum, value) in self.localities.iter_mut().zip(localities) {
            add(sum, (known, value));
        }
        add(&mut self.failed_tasks, said.failed);
        let (known, first, last) = said.times;
        self.first.add_least(said.tasks, known, first);
        self.last.add_largest(said.tasks, known, last);
        for (index, (sum, pair)) in self.spark.iter_mut().zip(said.metrics).enumerate() {
            match is_peak(index) {
                true => sum.add_largest(said.tasks, pair.0, pair.1),
                false => add(sum, pair),
            }
        }
    }

    /// Adds tasks of which the event log says nothing.
    pub fn add_unsaid(&mut self, tasks: u32) {
        let sums = self.localities.iter_mut().chain(&mut self.spark);
        for sum in sums.chain([&mut self.failed_tasks, &mut self.first, &mut self.last]) {
            sum.add_many(tasks, 0, 0, false);
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

    /// Adds counters of files alone; the row says nothing of other metrics.
    pub fn add_files(&mut self, counted: &Counted) {
        let files = MetricSet::class(Class::File);
        for (index, sum) in self.metrics.iter_mut().enumerate() {
            if files.contains(index) {
                sum.add(counted.values[index]);
            }
        }
    }

    /// Adds another row.
    pub fn join(&mut self, other: &Row) {
        self.tasks += other.tasks;
        self.recorded_tasks += other.recorded_tasks;
        self.exact_tasks += other.exact_tasks;
        self.failed_tasks.join(other.failed_tasks);
        self.first.join_least(other.first);
        self.last.join_largest(other.last);
        for (sum, other) in self.localities.iter_mut().zip(&other.localities) {
            sum.join(*other);
        }
        for (sum, other) in self.metrics.iter_mut().zip(&other.metrics) {
            sum.join(*other);
        }
        self.python.join(other.python);
        for (index, (sum, other)) in self.spark.iter_mut().zip(&other.spark).enumerate() {
            if is_peak(index) { sum.join_largest(*other) } else { sum.join(*other) }
        }
    }

    /// What the row says of a figure.
    pub fn said(&self, figure: Figure) -> Said {
        match figure {
            Figure::Tasks => Said::Exactly(self.tasks),
            Figure::RecordedTasks => Said::Exactly(self.recorded_tasks),
            Figure::ExactTasks => Said::Exactly(self.exact_tasks),
            Figure::Ratio(index) => {
                let ratio = &RATIOS[index];
                let (over, under) = (self.sum(ratio.over).said(), self.sum(ratio.under).said());
                quotient(over, under, ratio.factor)
            }
            _ => self.sum(figure).said(),
        }
    }

    /// Of how many parts the figure is known; of a ratio: the less complete of its two figures.
    pub fn completeness(&self, figure: Figure) -> Completeness {
        if let Figure::Ratio(index) = figure {
            let sides = [RATIOS[index].over, RATIOS[index].under].map(|one| self.completeness(one));
            return if sides[0].exact <= sides[1].exact { sides[0] } else { sides[1] };
        }
        let Sum { exact, bounds, unknown, .. } = self.sum(figure);
        Completeness { exact, at_least: bounds, unknown }
    }

    /// The sum behind a figure, which is no ratio. Counts of tasks know themselves.
    fn sum(&self, figure: Figure) -> Sum {
        let over = |wanted: &dyn Fn(usize) -> bool| {
            let mut sum = Sum::default();
            let mut parts = (0..METRIC_COUNT).filter(|&index| wanted(index));
            let Some(first) = parts.next() else { return sum };
            sum.join(self.metrics[first]);
            for index in parts {
                // Each has the same parts: the least complete one says how complete the sum is.
                let one = self.metrics[index];
                sum.value = sum.value.saturating_add(one.value);
                sum.unknown = sum.unknown.max(one.unknown);
                sum.bounds = sum.bounds.max(one.bounds);
                sum.exact = sum.exact.max(one.exact);
            }
            sum
        };
        let known = |value: u64| Sum { value, exact: 1, bounds: 0, unknown: 0 };
        match figure {
            Figure::Tasks => known(self.tasks),
            Figure::RecordedTasks => known(self.recorded_tasks),
            Figure::ExactTasks => known(self.exact_tasks),
            Figure::FailedTasks => self.failed_tasks,
            Figure::Locality(index) => self.localities[index],
            Figure::FirstLaunch => self.first,
            Figure::LastFinish => self.last,
            Figure::Wall => {
                let value = self.last.value.saturating_sub(self.first.value);
                Sum { value, ..self.last }
            }
            Figure::PythonInstructions => self.python,
            Figure::Metric(index) => self.metrics[index],
            Figure::MemoryBytes => {
                over(&|index| [MEMORY_BYTES_READ, MEMORY_BYTES_WRITTEN].contains(&index))
            }
            Figure::OverClasses(op, quantity) => over(&|index| {
                Class::ALL.iter().any(|&class| syscall_index(class, op, quantity) == Some(index))
            }),
            Figure::OverOps(class, wanted) => over(&|index| {
                METRICS[index]
                    .syscall()
                    .is_some_and(|(one, _, quantity)| (one, quantity) == (class, wanted))
            }),
            Figure::OverAll(wanted) => over(&|index| {
                METRICS[index].syscall().is_some_and(|(_, _, quantity)| quantity == wanted)
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
            Figure::Spark(index) => self.spark[index],
            Figure::Shuffle(read, written) => {
                let mut sum = self.spark[read];
                let other = self.spark[written];
                sum.value = sum.value.saturating_add(other.value);
                sum.unknown = sum.unknown.max(other.unknown);
                sum.exact = sum.exact.min(other.exact);
                sum
            }
            Figure::Ratio(_) => Sum::default(),
        }
    }
}

/// A sum that stops at the largest number, as [`Sum`] does: figures of logs may be anything.
pub fn total(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(0, u64::saturating_add)
}

/// The same; unknown if one of them is.
pub fn total_known(values: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    values.into_iter().try_fold(0_u64, |sum, one| Some(sum.saturating_add(one?)))
}

/// From one moment to a later one.
pub fn between(start: i64, end: i64) -> Option<u64> {
    u64::try_from(end.checked_sub(start)?).ok()
}

/// A ratio in millionths. A lower bound divided by something exact is a lower bound; divided by a lower
/// bound it is unknown, as is anything divided by 0.
fn quotient(over: Said, under: Said, factor: u64) -> Said {
    let Said::Exactly(under @ 1..) = under else { return Said::Unknown };
    let of = |over: u64| {
        let millionths = u128::from(over) * u128::from(factor * MILLION) / u128::from(under);
        u64::try_from(millionths).unwrap_or(u64::MAX)
    };
    match over {
        Said::Exactly(over) => Said::Exactly(of(over)),
        Said::AtLeast(over) => Said::AtLeast(of(over)),
        Said::Unknown => Said::Unknown,
    }
}

/// The rows of a report.
#[derive(Debug, Default)]
pub struct Rows {
    /// A row is 2 kB: the tree moves and leaves room for pointers.
    rows: BTreeMap<Key, Box<Row>>,
    /// Where goes what is of one row too many.
    surplus: Option<Box<Row>>,
    /// The order in which they are shown, if it is not that of the keys.
    order: Option<Vec<Key>>,
}

impl Rows {
    /// The row with this key.
    pub fn at(&mut self, key: Key) -> &mut Row {
        if self.rows.len() >= limits::rows() && !self.rows.contains_key(&key) {
            return self.surplus.get_or_insert_default();
        }
        self.rows.entry(key).or_default()
    }

    /// Whether there are more than a report may have.
    pub fn are_too_many(&self) -> bool {
        self.surplus.is_some()
    }

    /// Moves a part of a row's counters to another row. Nothing of them is unknown there: what is, stays.
    pub fn shift(&mut self, from: &Key, to: Key, part: &Run) {
        let Some(row) = self.rows.get_mut(from) else { return };
        for (sum, (_, value)) in row.metrics.iter_mut().zip(part.sums) {
            sum.value = sum.value.saturating_sub(value);
        }
        let row = self.at(to);
        for (index, (sum, (known, value))) in row.metrics.iter_mut().zip(part.sums).enumerate() {
            let are_bounds = part.is_partial && METRICS[index].is_engine();
            sum.add_many(known, known, value, are_bounds);
        }
    }

    /// All rows in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Row)> {
        let by_key = self.rows.iter().filter(|_| self.order.is_none());
        let in_order = self.order.iter().flatten().filter_map(|key| self.rows.get_key_value(key));
        by_key.chain(in_order).map(|(key, row)| (key, &**row))
    }

    /// Keeps the rows for which this holds.
    pub fn retain(&mut self, is_kept: impl Fn(&Key, &Row) -> bool) {
        self.rows.retain(|key, row| is_kept(key, row));
    }

    /// Sorts the rows by a figure, those that do not know it last, and keeps the first ones.
    pub fn sort(&mut self, figure: Figure, is_ascending: bool, top: Option<usize>) {
        let mut keys: Vec<(Option<u64>, Key)> =
            self.rows.iter().map(|(key, row)| (row.said(figure).value(), key.clone())).collect();
        keys.sort_by(|(one, first), (other, second)| {
            let order = match (one, other) {
                (Some(one), Some(other)) if is_ascending => one.cmp(other),
                (Some(one), Some(other)) => other.cmp(one),
                // Unknown comes last either way.
                _ => other.is_some().cmp(&one.is_some()),
            };
            order.then_with(|| first.cmp(second))
        });
        let rest = keys.split_off(keys.len().min(top.unwrap_or(usize::MAX)));
        for (_, key) in rest {
            self.rows.remove(&key);
        }
        self.order = Some(keys.into_iter().map(|(_, key)| key).collect());
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
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
    fn of_peaks_the_largest_is_told() {
        let index = SPARK_METRICS.iter().position(|one| *one == "peak_execution_memory_bytes");
        let figure = Figure::Spark(index.unwrap());
        let said = |peak: Option<u64>| {
            let mut metrics: SparkMetrics = [None; SPARK_METRICS.len()];
            metrics[index.unwrap()] = peak;
            SparkSaid { metrics, ..SparkSaid::default() }
        };
        let mut row = Row::default();
        [5, 9, 7].iter().for_each(|peak| row.add_said(&said(Some(*peak))));
        let mut other = Row::default();
        other.add_said(&said(Some(8)));
        row.join(&other);
        assert_eq!(row.said(figure), Said::Exactly(9));
        row.add_said(&said(None));
        assert_eq!(row.said(figure), Said::AtLeast(9));
    }

    #[test]
    fn ratios_are_as_sure_as_both_sides() {
        assert_eq!(quotient(Said::Exactly(3), Said::Exactly(2), 1), Said::Exactly(1_500_000));
        assert_eq!(
            quotient(Said::AtLeast(1), Said::Exactly(1), 1000),
            Said::AtLeast(1_000_000_000)
        );
        for under in [Said::Exactly(0), Said::AtLeast(5), Said::Unknown] {
            assert_eq!(quotient(Said::Exactly(3), under, 1), Said::Unknown);
        }
    }
}
