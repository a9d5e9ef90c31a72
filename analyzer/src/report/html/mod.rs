//! The report as one HTML file: data, style and code in it, nothing from the network.

use std::cmp::Reverse;
use std::io::{self, Write};

use records::metric::{Class, INSTRUCTIONS, Quantity};
use serde_json::{Value, json};

use crate::report::answer::Answer;
use crate::report::figure::{Figure, Scale};
use crate::report::findings::facts::Facts;
use crate::report::jobs::Job;
use crate::report::key::{Dimension, Key, Part};
use crate::report::rows::{Row, Rows, Said};
use crate::report::spread::Measure;
use crate::report::stage_names::StageName;
use crate::report::{findings, plan, spread_print};

/// The page; its data stands for [`DATA_MARK`].
const PAGE: &str = include_str!("page.html");
const DATA_MARK: &str = "@DATA@";
/// The figures of single tasks when the user chooses none, besides those that the engine counts: a report of 100,000 tasks must stay small.
const TASK_FIGURES: [&str; 11] = [
    "syscall_calls",
    "syscall_ns",
    "file_bytes_in",
    "file_bytes_out",
    "socket_bytes_in",
    "socket_bytes_out",
    "spark_run_time_ms",
    "spark_cpu_time_ns",
    "spark_gc_time_ms",
    "spark_shuffle_read_bytes",
    "spark_shuffle_write_bytes",
];
/// Rows of directories that the page has one by one: executors have hundreds each, none of them another's.
const MAX_DIRECTORIES: usize = 1000;
/// JavaScript's numbers are exact up to here.
const MAX_EXACT: u64 = 1 << 53;

/// What the rows of the page must be per.
pub const BY: [Dimension; 6] = [
    Dimension::App,
    Dimension::Node,
    Dimension::Executor,
    Dimension::Job,
    Dimension::Stage,
    Dimension::Task,
];

/// What the rows of its directories must be per.
pub const BY_DIRECTORY: [Dimension; 3] = [Dimension::App, Dimension::Node, Dimension::Directory];

/// The groupings that the page offers, with the dimensions of each.
const GROUPS: [(&str, &[Dimension]); 6] = [
    ("stages", &[Dimension::App, Dimension::Stage]),
    ("jobs", &[Dimension::App, Dimension::Job]),
    ("nodes", &[Dimension::App, Dimension::Node]),
    ("executors", &[Dimension::App, Dimension::Executor]),
    ("nodes and stages", &[Dimension::App, Dimension::Node, Dimension::Stage]),
    ("applications", &[Dimension::App]),
];

/// Prints the page; the answers must be per [`BY`] and [`BY_DIRECTORY`].
///
/// # Errors
/// When the output cannot be written.
pub fn print(
    out: &mut impl Write,
    answer: &Answer,
    directories: &Answer,
    figures: Option<&[Figure]>,
) -> io::Result<()> {
    let data = data(answer, directories, figures).to_string();
    // In a script element only this character can end it.
    let data = data.replace('<', "\\u003c");
    let (before, after) = PAGE.split_once(DATA_MARK).expect("the page has a place for its data");
    for part in [before, &data, after] {
        out.write_all(part.as_bytes())?;
    }
    Ok(())
}

fn data(answer: &Answer, directories: &Answer, chosen: Option<&[Figure]>) -> Value {
    let figures = chosen.map_or_else(Figure::all, <[_]>::to_vec);
    let is_of_tasks = |figure: &Figure| {
        chosen.is_some()
            || Figure::of_engine().any(|one| one == *figure)
            || TASK_FIGURES.contains(&figure.name().as_str())
    };
    let task_figures: Vec<usize> =
        (0..figures.len()).filter(|&at| is_of_tasks(&figures[at])).collect();
    // What is shown first: the first figure of tasks of which something is known.
    let total = answer.rows.total();
    let is_known = |&&at: &&usize| total.said(figures[at]).value().is_some_and(|value| value > 0);
    let metric = task_figures.iter().find(is_known).copied().unwrap_or(0);
    let mut groups: Vec<_> = GROUPS
        .iter()
        .map(|(name, by)| {
            let rows = answer.rows.projected(by);
            let rows: Vec<_> = rows
                .iter()
                .map(|(key, row)| json!({"key": cells(key, by), "values": values(row, &figures)}))
                .collect();
            json!({"name": name, "head": heads(by), "rows": rows})
        })
        .collect();
    groups.push(directories_group(directories, &figures));
    // Of every figure of which something is known, not of those alone that the page has per task.
    let spreads = figures
        .iter()
        .filter(|figure| total.said(**figure).value().is_some_and(|value| value > 0))
        .map(|figure| Measure::Of(*figure))
        .chain([Measure::Duration])
        .flat_map(|measure| {
            let number = |value| match measure {
                Measure::Of(figure) => number(figure, value),
                Measure::Duration => json!(value),
            };
            spread_print::json(answer, measure, &number)
        })
        .collect::<Vec<_>>();
    let applications: Vec<_> = answer
        .rows
        .projected(&[Dimension::App])
        .iter()
        .filter_map(|(key, _)| Some(key.application.as_ref()?.0.clone()))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(|id| json!({"id": id, "name": answer.application_names.get(&id)}))
        .collect();
    let scale = |figure: &Figure| match figure.scale() {
        Scale::Count => "count",
        Scale::Bytes => "bytes",
        Scale::Nanoseconds => "ns",
        Scale::Milliseconds => "ms",
        Scale::Moment => "moment",
        Scale::Millionths => "ratio",
    };
    let described: Vec<_> = figures
        .iter()
        .map(|figure| {
            let meaning = super::glossary::meaning(*figure);
            json!({"name": figure.name(), "scale": scale(figure), "meaning": meaning})
        })
        .collect();
    let mut notes = answer.notes.lines();
    notes.extend(answer.written.line());
    let task_figure_list: Vec<_> = task_figures.iter().map(|&at| figures[at]).collect();
    json!({
        "notes": notes,
        "applications": applications,
        "overviews": overviews(answer),
        "figures": described,
        "task_figures": task_figures,
        "metric": metric,
        "groups": groups,
        "tasks": tasks(answer, &task_figure_list),
        "spreads": spreads,
        "stragglers": spread_print::stragglers_json(answer, &|value| {
            number(Figure::Metric(INSTRUCTIONS), value)
        }),
        "stages": stages(answer),
        "queries": plan::json(answer),
        "jobs": jobs(answer),
    })
}

/// What the first screen says of each application.
fn overviews(answer: &Answer) -> Vec<Value> {
    let of = |application: String| {
        let facts = Facts::of(answer, &application);
        let found: Vec<_> = findings::find(&facts)
            .iter()
            .map(|finding| {
                let mut value = finding.json();
                value["title"] = json!(finding.rule.title());
                value["gain"] = json!(finding.gain_text());
                value
            })
            .collect();
        let app = facts.app;
        json!({
            "application": application,
            "name": app.and_then(|app| app.name.as_ref()),
            "user": app.and_then(|app| app.user.as_ref()),
            "version": app.and_then(|app| app.version.as_ref()),
            "started_ms": app.and_then(|app| app.started_ms),
            "ended_ms": app.and_then(|app| app.ended_ms),
            "wall_ms": facts.wall_ms,
            "executors": facts.executors.len(),
            "cores": facts.cores,
            "stages": facts.stages.len(),
            "findings": found,
        })
    };
    answer.applications().into_iter().map(of).collect()
}

/// The table of directories, those of most bytes first. Of tasks they know nothing.
fn directories_group(directories: &Answer, figures: &[Figure]) -> Value {
    let bytes = |row: &Row| row.said(Figure::OverOps(Class::File, Quantity::Bytes)).value();
    let known = |row: &Row| -> Vec<Value> {
        let all = values(row, figures).into_iter().zip(figures);
        all.map(|(value, figure)| if figure.is_of_processes() { value } else { Value::Null })
            .collect()
    };
    let mut rows: Vec<(&Key, &Row)> = directories.rows.iter().collect();
    rows.sort_by_key(|(_, row)| Reverse(bytes(row)));
    let rest = rows.split_off(rows.len().min(MAX_DIRECTORIES));
    let mut rows: Vec<_> = rows
        .iter()
        .map(|(key, row)| json!({"key": cells(key, &BY_DIRECTORY), "values": known(row)}))
        .collect();
    if !rest.is_empty() {
        let mut sum = Row::default();
        rest.iter().for_each(|(_, row)| sum.join(row));
        let name = format!("({} rows of fewer bytes)", rest.len());
        let key = json!([null, null, name, Part::Whole.name()]);
        rows.push(json!({"key": key, "values": known(&sum)}));
    }
    json!({"name": "directories", "head": heads(&BY_DIRECTORY), "rows": rows})
}

fn heads(by: &[Dimension]) -> Vec<&'static str> {
    let mut heads: Vec<_> = by
        .iter()
        .flat_map(|dimension| match dimension {
            Dimension::Stage => vec!["stage", "attempt"],
            other => vec![other.name()],
        })
        .collect();
    heads.push("part");
    heads
}

fn cells(key: &Key, by: &[Dimension]) -> Vec<Value> {
    let mut cells = Vec::new();
    for dimension in by {
        match dimension {
            Dimension::App => cells.push(json!(key.application.as_ref().map(|name| &name.0))),
            Dimension::Node => cells.push(json!(key.node.as_ref().map(|name| &name.0))),
            Dimension::Executor => cells.push(json!(key.executor.as_ref().map(|name| &name.0))),
            Dimension::Process => cells.push(json!(key.process)),
            Dimension::Thread => cells.push(json!(key.thread.as_ref().map(|thread| thread.tid))),
            Dimension::Directory => cells.push(json!(key.directory)),
            Dimension::Time => cells.push(json!(key.time.map(|span| span.from_ms))),
            Dimension::Query => cells.push(json!(key.query)),
            Dimension::Job => cells.push(json!(key.job)),
            Dimension::Stage => {
                cells.push(json!(key.stage.map(|stage| stage.0)));
                cells.push(json!(key.stage.and_then(|stage| stage.1)));
            }
            Dimension::Task => cells.push(json!(key.task)),
        }
    }
    cells.push(json!(key.part.name()));
    cells
}

/// A number for JavaScript: text where it would not be exact.
fn number(figure: Figure, value: u64) -> Value {
    if figure.scale() == Scale::Millionths {
        figure.json(value)
    } else if value <= MAX_EXACT {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

fn values(row: &Row, figures: &[Figure]) -> Vec<Value> {
    let value = |figure: &Figure| match row.said(*figure) {
        Said::Exactly(value) => number(*figure, value),
        Said::AtLeast(value) => json!(format!("{}+", figure.json(value))),
        Said::Unknown => Value::Null,
    };
    figures.iter().map(value).collect()
}

fn tasks(answer: &Answer, figures: &[Figure]) -> Value {
    let (mut keys, mut times, mut figures_of) = (Vec::new(), Vec::new(), Vec::new());
    // Places of the tasks that did not succeed, and why; few, if any.
    let mut failures = serde_json::Map::new();
    let failed: std::collections::HashMap<(&str, i64), &str> = answer
        .tasks
        .iter()
        .flat_map(|facts| facts.all.iter().map(move |task| (facts, task)))
        .filter(|(_, task)| !task.has_succeeded())
        .map(|(facts, task)| {
            let why = task.failure.as_deref().unwrap_or("failed or killed");
            ((facts.name(task.application), task.task), why)
        })
        .collect();
    for (key, row) in answer.rows.iter().filter(|(key, _)| key.part == Part::Tasks) {
        let mut cells = cells(key, &BY);
        cells.pop();
        let own = key.application.as_ref().map(|name| name.0.as_str()).zip(key.task);
        if let Some(why) = own.and_then(|own| failed.get(&own)) {
            failures.insert(keys.len().to_string(), json!(why));
        }
        keys.push(cells);
        let id = key.application.as_ref().map(|name| name.0.clone()).zip(key.task);
        times.push(id.and_then(|id| answer.task_times.get(&id)).map(|(start, end)| [start, end]));
        figures_of.push(values(row, figures));
    }
    json!({"keys": keys, "times": times, "values": figures_of, "failures": failures})
}

fn is_shown(rows: &Rows, application: &str) -> bool {
    let mut keys = rows.iter().filter_map(|(key, _)| key.application.as_ref());
    keys.any(|name| name.0 == application)
}

fn stages(answer: &Answer) -> Vec<Value> {
    let applications = answer.rows.projected(&[Dimension::App]);
    let all = answer.jobs.parents.iter();
    all.filter(|((application, ..), _)| is_shown(&applications, application))
        .map(|(key, parents)| {
            let (application, stage, attempt) = key;
            json!({
                "application": application,
                "stage": stage,
                "attempt": attempt,
                "name": answer.stage_names.get(key).map(StageName::full),
                "parents": parents,
            })
        })
        .collect()
}

fn jobs(answer: &Answer) -> Vec<Value> {
    let described =
        |job: &Job| json!({"application": job.application, "job": job.job, "stages": job.stages});
    answer.jobs.all.iter().map(described).collect()
}
