//! What `top` prints once.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::commands::top::threads::{Shown, Threads};
use crate::commands::top::view::View;
use crate::console::terminal::HEADING;
use crate::report::figure::Scale;
use crate::report::words::{human, stage_text};
use crate::text::shown::printable;

/// The heads of a line before the figures.
pub const KEYS: [&str; 5] = ["executor", "pid", "thread", "name", "task"];

/// The cells of a line: keys, then rates.
pub fn cells(shown: &Shown<'_>, view: &View) -> Vec<String> {
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), printable);
    let task = match &shown.thread.task {
        Some(task) => {
            let seconds = shown.process.last_ns.saturating_sub(task.since_ns) as f64 / 1e9;
            format!("{} {seconds:.1}s", task_text(task))
        }
        None if shown.thread.has_ended || shown.process.has_ended => "ended".into(),
        None if shown.is_quiet() => "quiet".into(),
        None => String::new(),
    };
    let owner = shown.process.executor.as_ref().or(shown.process.role.as_ref()).cloned();
    let mut cells = vec![
        text(&owner),
        shown.process.pid.to_string(),
        shown.tid.to_string(),
        text(&shown.thread.name),
        task,
    ];
    cells.extend(view.columns.iter().map(|(figure, _)| {
        let rate = shown.rate(*figure);
        let scale = figure.scale();
        rate.map_or("-".into(), |rate| match scale {
            Scale::Nanoseconds | Scale::Milliseconds => human(rate.round() as u64, scale) + "/s",
            _ => human(rate.round() as u64, scale),
        })
    }));
    cells
}

fn task_text(task: &crate::commands::top::threads::Task) -> String {
    let stage = match task.stage {
        (-1, _) => "-".into(),
        (stage, attempt) => stage_text(stage, (attempt > 0).then_some(attempt)),
    };
    format!("{stage}/{}", task.task)
}

/// One line on what is seen.
pub fn summary(threads: &Threads, view: &View, shown: &[Shown<'_>]) -> String {
    let running = threads.processes.values().filter(|process| !process.has_ended).count();
    let ended = threads.processes.len() - running;
    let tasks = shown.iter().filter(|one| one.thread.task.is_some()).count();
    let hint = if ended > 0 && !view.all { " (--all shows them)" } else { "" };
    format!(
        "{}: {running} processes, {} threads, {tasks} tasks running; {ended} processes have ended{hint}",
        printable(&view.what),
        shown.len()
    )
}

/// Prints a table.
///
/// # Errors
/// When the output cannot be written.
pub fn table(out: &mut impl Write, threads: &Threads, view: &View) -> io::Result<()> {
    let shown = threads.shown(view.sort, view.all);
    writeln!(out, "{}", summary(threads, view, &shown))?;
    let heads = KEYS.iter().map(|key| (*key).to_owned());
    let heads: Vec<String> = heads.chain(view.columns.iter().map(|one| one.1.clone())).collect();
    let lines: Vec<_> = shown.iter().map(|one| cells(one, view)).collect();
    let width = |at: usize| {
        let cells = lines.iter().chain([&heads]).map(|line| line[at].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    for (number, line) in [&heads].into_iter().chain(&lines).enumerate() {
        let mut text = String::new();
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if at < KEYS.len() {
                text.push_str(&format!("{cell:<width$}  "));
            } else {
                text.push_str(&format!("{cell:>width$} "));
            }
        }
        match number {
            0 => writeln!(out, "{HEADING}{}{HEADING:#}", text.trim_end())?,
            _ => writeln!(out, "{}", text.trim_end())?,
        }
    }
    Ok(())
}

/// Prints JSON.
///
/// # Errors
/// When the output cannot be written.
pub fn json(out: &mut impl Write, threads: &Threads, view: &View) -> io::Result<()> {
    let shown = threads.shown(view.sort, view.all);
    let thread = |one: &Shown<'_>| {
        let figures =
            |value: &dyn Fn(crate::report::figure::Figure) -> Value| -> Map<String, Value> {
                view.columns.iter().map(|(figure, _)| (figure.name(), value(*figure))).collect()
            };
        let in_task = one.thread.in_task();
        let task = one.thread.task.as_ref().map(|task| {
            json!({
                "stage": (task.stage.0 >= 0).then_some(task.stage.0),
                "stage_attempt": (task.stage.1 >= 0).then_some(task.stage.1),
                "task_id": (task.task >= 0).then_some(task.task),
                "ms": one.process.last_ns.saturating_sub(task.since_ns) / 1_000_000,
                "figures": figures(&|figure| {
                    let value = in_task.as_ref().and_then(|row| row.said(figure).value());
                    json!(value.map(|value| figure.json(value)))
                }),
            })
        });
        json!({
            "node": one.process.node,
            "role": one.process.role,
            "application_id": one.process.application,
            "executor_id": one.process.executor,
            "pid": one.process.pid,
            "tid": one.tid,
            "name": one.thread.name,
            "has_ended": one.thread.has_ended || one.process.has_ended,
            "is_quiet": one.is_quiet(),
            "task": task,
            "per_second": figures(&|figure| json!(one.rate(figure))),
        })
    };
    let threads: Vec<_> = shown.iter().map(thread).collect();
    writeln!(out, "{}", json!({"threads": threads}))
}
