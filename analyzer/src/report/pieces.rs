//! Tasks cut at their snapshots, for rows per time.
//!
//! A task's row has what it did over all its time. What it did between two snapshots of its thread goes from there to the
//! row of the time between them. Nothing is divided further: what was measured over several buckets is in
//! a row of these buckets ([`Span`]). The task itself, and what Spark says of it, stay where its whole time is.

use std::collections::{BTreeMap, HashMap, HashSet};

use records::{METRIC_COUNT, METRICS};

use crate::console::progress::Step;
use crate::report::accumulate::Sums;
use crate::report::key::{Key, Span};
use crate::report::question::Question;
use crate::report::rated::Rated;
use crate::report::rows::Run;
use crate::store::{Store, StoreError, Table};

impl Question<'_> {
    /// The buckets of something of which the records know start and end (in ns), or else the event log (in ms).
    pub(super) fn span(
        &self,
        own_ns: Option<(i64, i64)>,
        logged_ms: Option<(i64, i64)>,
    ) -> Option<Span> {
        // What ends as a bucket begins did nothing in it. Times in ms are cut: it may have gone on.
        let own = own_ns.map(|(start, end)| self.buckets(start, end.saturating_sub(1), 1_000_000));
        own.or_else(|| logged_ms.map(|(start, end)| self.buckets(start, end, 1)))
    }

    fn buckets(&self, start: i64, last: i64, per_ms: i64) -> Span {
        let width = self.bucket_ms.saturating_mul(per_ms);
        let begin = |time: i64| time.div_euclid(width).saturating_mul(self.bucket_ms);
        self.spanning(begin(start), begin(last.max(start)).saturating_add(self.bucket_ms))
    }

    /// Buckets from the beginning of the first to the end of the last.
    pub(super) fn spanning(&self, from_ms: i64, until_ms: i64) -> Span {
        Span { from_ms, until_ms, is_bucket: until_ms.saturating_sub(from_ms) <= self.bucket_ms }
    }
}

/// A task that snapshots may cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    start_ns: i64,
    end_ns: i64,
    /// Place of its row's key.
    key: usize,
    is_partial: bool,
}

/// A thread's counters at a moment of a task.
struct Before {
    task: Cut,
    at_ns: i64,
    values: [Option<u64>; METRIC_COUNT],
}

/// The tasks that snapshots may cut.
pub struct Pieces {
    /// Process -> thread number -> its tasks; of processes with snapshots.
    threads: HashMap<String, HashMap<i64, Vec<Cut>>>,
    keys: Vec<Key>,
    places: BTreeMap<Key, usize>,
}

impl Pieces {
    /// Finds the processes that have snapshots; `None` if none has.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn begin(store: &dyn Store, applications: &[String]) -> Result<Option<Pieces>, StoreError> {
        let mut ids = HashSet::new();
        store.scan(Table::Snapshots, Some(&["process_id"]), applications, &mut |frame| {
            let mut last = None;
            for id in frame.column("process_id")?.str()?.iter().flatten() {
                if last != Some(id) {
                    ids.insert(id.to_owned());
                    last = Some(id);
                }
            }
            Ok(())
        })?;
        let threads: HashMap<_, _> = ids.into_iter().map(|id| (id, HashMap::new())).collect();
        let pieces = Pieces { threads, keys: Vec::new(), places: BTreeMap::new() };
        Ok((!pieces.threads.is_empty()).then_some(pieces))
    }

    /// Notes a task, unless it is in one bucket as a whole.
    pub fn note(&mut self, process: &str, thread: i64, task: Noted, key: &Key) {
        let Some(threads) = self.threads.get_mut(process) else { return };
        if task.end_ns.is_some() && key.time.is_some_and(|span| span.is_bucket) {
            return;
        }
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => {
                self.places.insert(key.clone(), self.keys.len());
                self.keys.push(key.clone());
                self.keys.len() - 1
            }
        };
        threads.entry(thread).or_default().push(Cut {
            start_ns: task.start_ns,
            end_ns: task.end_ns.unwrap_or(i64::MAX),
            key: place,
            is_partial: task.is_partial,
        });
    }

    /// Moves what was done between snapshots to the rows of the time between them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn shift(mut self, store: &dyn Store, sums: &mut Sums<'_>) -> Result<(), StoreError> {
        self.threads.retain(|_, threads| !threads.is_empty());
        let threads = self.threads.values_mut().flat_map(HashMap::values_mut);
        threads.for_each(|tasks| tasks.sort_unstable_by_key(|task| task.start_ns));
        if self.threads.is_empty() {
            return Ok(());
        }
        let columns = ["process_id", "tid", "real_ns", "engine"];
        let columns: Vec<_> =
            columns.into_iter().chain(METRICS.iter().map(|one| one.name)).collect();
        let step = Step::begin("cutting tasks at their snapshots");
        let mut process = String::new();
        let mut before: HashMap<i64, Before> = HashMap::new();
        let mut cut = 0_u64;
        let applications = sums.ids.to_vec();
        store.scan(Table::Snapshots, Some(&columns), &applications, &mut |mut frame| {
            frame.rechunk_mut();
            let rows = Rated::of(frame)?;
            let ids = rows.frame.column("process_id")?.str()?;
            let tids = rows.frame.column("tid")?.i64()?;
            let times = rows.frame.column("real_ns")?.i64()?;
            for at in 0..rows.len() {
                let id = ids.get(at).unwrap_or_default();
                if id != process {
                    before.clear();
                    id.clone_into(&mut process);
                }
                let tasks = tids.get(at).and_then(|tid| self.threads.get(id)?.get(&tid));
                let (Some(tasks), Some(tid), Some(at_ns)) = (tasks, tids.get(at), times.get(at))
                else {
                    continue;
                };
                let open = before.remove(&tid).filter(|open| at_ns <= open.task.end_ns);
                let begun = tasks.partition_point(|task| task.start_ns < at_ns);
                let begun = tasks.get(begun).filter(|task| task.start_ns == at_ns);
                if open.is_none() && begun.is_none() {
                    continue;
                }
                let values = rows.counted(at).values;
                if let Some(open) = &open
                    && open.at_ns < at_ns
                    && self.take(sums, open, at_ns, &values)
                {
                    cut += 1;
                }
                // Only a task whose start was kept is cut without a rest.
                if let Some(task) = begun.copied().or(open.map(|open| open.task)) {
                    before.insert(tid, Before { task, at_ns, values });
                }
            }
            Ok(())
        })?;
        step.end(&format!("{cut} pieces"));
        Ok(())
    }

    /// Moves a piece; whether it is of another time than its task.
    fn take(
        &self,
        sums: &mut Sums<'_>,
        before: &Before,
        at_ns: i64,
        values: &[Option<u64>; METRIC_COUNT],
    ) -> bool {
        let time = sums.question.span(Some((before.at_ns, at_ns)), None);
        let from = &self.keys[before.task.key];
        if time == from.time {
            return false;
        }
        let difference = |metric: usize| {
            let (now, then): (Option<u64>, Option<u64>) = (values[metric], before.values[metric]);
            let known = now.zip(then).and_then(|(now, then)| now.checked_sub(then));
            (u32::from(known.is_some()), known.unwrap_or(0))
        };
        let run = Run {
            tasks: 1,
            sums: std::array::from_fn(difference),
            is_partial: before.task.is_partial,
            is_exact: false,
        };
        sums.answer.rows.shift(from, Key { time, ..from.clone() }, &run);
        true
    }
}

/// What is noted of a task.
pub struct Noted {
    /// When it started, ns since the epoch.
    pub start_ns: i64,
    /// When it ended, if that was seen.
    pub end_ns: Option<i64>,
    /// Whether the engine's values are lower bounds.
    pub is_partial: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_that_something_was_done_in() {
        let question =
            Question { by: &[], applications: &[], roles: &[], bucket_ms: 10, lists_tasks: false };
        let of = |own, logged| {
            let span = question.span(own, logged).unwrap();
            (span.from_ms, span.until_ms, span.is_bucket)
        };
        let ms = |start: i64, end: i64| Some((start * 1_000_000, end * 1_000_000));
        assert_eq!(of(ms(0, 10), None), (0, 10, true), "its end is no part of it");
        assert_eq!(of(ms(0, 11), Some((50, 60))), (0, 20, false));
        assert_eq!(of(ms(10, 10), None), (10, 20, true));
        assert_eq!(of(ms(-1, 1), None), (-10, 10, false));
        assert_eq!(of(None, Some((0, 10))), (0, 20, false), "10.9 ms are 10 ms there");
        assert_eq!(question.span(None, None), None);
        let whole = Question { bucket_ms: i64::MAX, ..question };
        assert!(whole.span(ms(5, 1 << 40), None).unwrap().is_bucket);
    }
}
