//! Taking in the tasks of the records on this machine, and joining them with the event log's.

use std::collections::HashMap;

use polars::prelude::{BooleanChunked, DataFrame, Int64Chunked};

use crate::report::accumulate::{Of, Process, Sums};
use crate::report::key::Dimension;
use crate::report::logged::LoggedTasks;
use crate::report::pieces::{Noted, Pieces};
use crate::report::rated::Rated;
use crate::report::rows::{Share, TaskFigures};
use crate::report::stage_attempts::StageAttempts;
use crate::report::task_facts::Recorded;
use crate::store::StoreError;

/// A set of TIDs, which Spark gives in turn: a bit each.
#[derive(Debug, Default)]
struct Tids(HashMap<i64, u64>);

impl Tids {
    /// Says whether it was not in the set yet.
    fn insert(&mut self, tid: i64) -> bool {
        let word = self.0.entry(tid >> 6).or_default();
        let bit = 1 << (tid & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

/// Takes in the tasks of the records. Neighbours that are of one row and were counted alike are summed up
/// column by column.
pub struct Tasks<'t, 'q> {
    sums: &'t mut Sums<'q>,
    logged: &'t mut LoggedTasks,
    /// TIDs that were seen, of each application attempt in `attempts`.
    seen: Vec<Tids>,
    /// (application, attempt) -> place in `seen`.
    attempts: HashMap<(Option<String>, Option<String>), usize>,
    /// The tasks that snapshots may cut, if rows are per time and there are snapshots.
    pub pieces: Option<Pieces>,
    /// For records that do not know it.
    stage_attempts: &'t StageAttempts,
}

/// Neighbours in a frame.
struct Neighbours<'f> {
    of: Of<'f>,
    from: usize,
    /// Those of them that the event log tells of.
    logged: Vec<usize>,
}

impl<'t, 'q> Tasks<'t, 'q> {
    /// Adds to these sums what it takes in.
    pub fn new(
        sums: &'t mut Sums<'q>,
        logged: &'t mut LoggedTasks,
        stage_attempts: &'t StageAttempts,
        pieces: Option<Pieces>,
    ) -> Tasks<'t, 'q> {
        Tasks { sums, logged, seen: Vec::new(), attempts: HashMap::new(), pieces, stage_attempts }
    }

    /// Takes in rows of the table.
    ///
    /// # Errors
    /// When it is another table.
    pub fn take(&mut self, mut frame: DataFrame) -> Result<(), StoreError> {
        frame.rechunk_mut();
        let rows = Rated::of(frame)?;
        let text = |name: &str| rows.frame.column(name)?.str();
        let number = |name: &str| rows.frame.column(name)?.i64();
        let truth = |name: &str| rows.frame.column(name)?.bool();
        let (processes, applications) = (text("process_id")?, text("application_id")?);
        let (executors, engines) = (text("executor_id")?, text("engine")?);
        let methods = text("method")?;
        let (stages, stage_attempts) = (number("stage")?, number("stage_attempt")?);
        let (task_ids, threads) = (number("task_id")?, number("tid")?);
        let (starts, ends) = (number("start_real_ns")?, number("end_real_ns")?);
        let (late, by_next) = (truth("is_late")?, truth("closed_by_next")?);
        let by_end = truth("closed_by_thread_end")?;
        let is_set = |column: &BooleanChunked, at| column.get(at).unwrap_or(false);
        let question = self.sums.question;
        // Neighbours are of different rows if rows are per one of these.
        let is_fine = question
            .by
            .iter()
            .any(|one| [Dimension::Task, Dimension::Thread, Dimension::Time].contains(one));
        let selected = self.sums.selected;
        let mut current: Option<(&str, Option<&Process>)> = None;
        let mut attempt: Option<((&str, Option<&str>), usize)> = None;
        let mut neighbours: Option<Neighbours<'_>> = None;
        for at in 0..rows.len() {
            let id = processes.get(at).unwrap_or_default();
            if current.is_none_or(|(one, _)| one != id) {
                current = Some((id, selected.get(id).copied()));
            }
            let Some(process) = current.and_then(|(_, process)| process) else {
                if let Some(before) = neighbours.take() {
                    self.add(&rows, &before, at)?;
                }
                continue;
            };
            let own_application = applications.get(at).or(process.id.as_deref());
            let task_id = task_ids.get(at);
            let logged_task = own_application.zip(task_id).and_then(|(application, task_id)| {
                let attempt = process.attempt.as_deref();
                self.logged.find(application, process.cluster.as_deref(), attempt, task_id)
            });
            let share = Share::of(methods.get(at));
            let is_further = share.is_further();
            self.sums.answer.notes.python_records((share == Share::Python).into());
            self.sums.answer.notes.tasks(
                u64::from(starts.get(at).is_none()),
                u64::from(ends.get(at).is_none()),
                u64::from(is_set(late, at)),
                u64::from(is_set(by_next, at) || is_set(by_end, at)),
            );
            let seen = match attempt.filter(|(key, _)| *key == (id, own_application)) {
                Some((_, place)) => place,
                None => {
                    let key = (own_application.map(str::to_owned), process.attempt.clone());
                    let next = self.attempts.len();
                    let place = *self.attempts.entry(key).or_insert(next);
                    if place == self.seen.len() {
                        self.seen.push(Tids::default());
                    }
                    attempt = Some(((id, own_application), place));
                    place
                }
            };
            let is_repeated =
                is_further || task_id.is_some_and(|task_id| !self.seen[seen].insert(task_id));
            let called = own_application.map(|id| process.called(id));
            match logged_task {
                Some(task) => self.logged.tasks[task].is_joined = true,
                None => {
                    let name = called.as_deref().unwrap_or("unknown");
                    let has_log =
                        own_application.is_some_and(|id| self.logged.apps.contains_key(id));
                    self.sums.answer.notes.unlogged_tasks(name, has_log, 1);
                }
            }
            let told = || {
                let attempt = process.attempt.as_deref();
                let known = || self.stage_attempts.of(own_application?, attempt, task_id?);
                stage_attempts.get(at).or_else(|| if is_further { known() } else { None })
            };
            let stage = stages.get(at).map(|id| (id, told()));
            let stage = stage.or_else(|| self.logged.tasks[logged_task?].place.stage);
            let of = Of {
                process: id,
                application: own_application,
                executor: executors.get(at),
                stage,
                engine: engines.get(at),
                ..Of::default()
            };
            if let (Some(facts), Some(application), Some(task)) =
                (&mut self.sums.answer.tasks, &called, task_id)
            {
                let ms = |column: &Int64Chunked| column.get(at).map(|ns| ns / 1_000_000);
                let recorded = Recorded {
                    application,
                    node: process.place.node.as_deref(),
                    executor: of.executor.or(process.place.executor.as_deref()),
                    stage,
                    task,
                    times: ms(starts).zip(ms(ends)),
                    instructions: rows.exact_instructions(at),
                    share,
                };
                let said = logged_task.map(|task| &self.logged.tasks[task]);
                facts.take(&recorded, said);
            }
            if !is_fine && !is_repeated {
                if neighbours.as_ref().is_none_or(|one| one.of != of) {
                    if let Some(before) = neighbours.take() {
                        self.add(&rows, &before, at)?;
                    }
                    neighbours = Some(Neighbours { of, from: at, logged: Vec::new() });
                }
                if let Some(neighbours) = &mut neighbours {
                    neighbours.logged.extend(logged_task);
                }
                continue;
            }
            if let Some(before) = neighbours.take() {
                self.add(&rows, &before, at)?;
            }
            let ms = |column: &Int64Chunked| column.get(at).map(|ns| ns / 1_000_000);
            let logged_times = logged_task.and_then(|task| self.logged.tasks[task].times);
            let own_times = || ms(starts).zip(ms(ends)).filter(|_| !is_further);
            let times = logged_times.or_else(own_times);
            if let (Some(times), Some(application), Some(task_id)) = (times, called, task_id) {
                let key = (application, task_id);
                self.sums.answer.task_times.insert(key, times);
            }
            let counted = rows.counted(at);
            let time = question.span(starts.get(at).zip(ends.get(at)), logged_times);
            let of = Of { thread: threads.get(at), time, task: task_id, ..of };
            self.sums.take(&of, &counted.values.map(|value| value.unwrap_or(0)));
            let spark = logged_task.map(|task| &self.logged.tasks[task].said);
            let figures = TaskFigures { counted: &counted, is_repeated, share, spark };
            let key = self.sums.key(&of);
            if let (Some(pieces), Some(start_ns)) = (&mut self.pieces, starts.get(at))
                && let Some(thread) = of.thread
            {
                let is_partial = counted.is_partial;
                let noted = Noted { start_ns, end_ns: ends.get(at), is_partial };
                pieces.note(id, thread, noted, &key);
            }
            self.sums.answer.rows.at(key).add_task(&figures);
        }
        match neighbours {
            Some(last) => self.add(&rows, &last, rows.len()),
            None => Ok(()),
        }
    }

    /// Adds neighbours, up to a place in the frame.
    fn add(
        &mut self,
        rows: &Rated,
        neighbours: &Neighbours<'_>,
        to: usize,
    ) -> Result<(), StoreError> {
        let run = rows.run(neighbours.from, to)?;
        let row = self.sums.add_run(&neighbours.of, &run, Share::Own);
        neighbours.logged.iter().for_each(|&task| row.add_said(&self.logged.tasks[task].said));
        row.add_unsaid(run.tasks - neighbours.logged.len() as u32);
        Ok(())
    }
}
