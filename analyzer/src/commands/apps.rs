//! `analyzer apps`: the applications of a store.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::console::terminal::{HEADING, utc};
use crate::report::applications::{Listed, list};
use crate::report::csv::csv_cell;
use crate::report::figure::{Figure, Scale};
use crate::report::gather::gather;
use crate::report::key::Dimension;
use crate::report::question::Question;
use crate::report::rows::Row;
use crate::report::words::{cell, human};
use crate::store::{self, OfStore};
use crate::text::shown::printable;

/// List the applications of a store, the newest first
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: OfStore,

    /// At most so many
    #[arg(long, value_name = "N")]
    top: Option<usize>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For spreadsheets
    Csv,
}

/// An application with the sums over its tasks.
struct Line {
    listed: Listed,
    row: Row,
}

impl Line {
    fn ended_ms(&self) -> Option<i64> {
        self.listed.app.ended_ms.or(self.listed.last_ms)
    }

    fn wall_ms(&self) -> Option<u64> {
        crate::report::rows::between(self.listed.started_ms?, self.ended_ms()?)
    }

    fn state(&self) -> &'static str {
        let app = &self.listed.app;
        match (app.started_ms, app.ended_ms) {
            (None, _) => "no log",
            (_, Some(_)) => "ended",
            (_, None) => "open",
        }
    }

    fn value(&self, name: &str) -> Option<u64> {
        self.row.said(Figure::parse(name).ok()?).value()
    }

    fn json(&self) -> Value {
        let app = &self.listed.app;
        json!({
            "application_id": self.listed.called,
            "name": app.name,
            "user": app.user,
            "spark_version": app.version,
            "started_ms": self.listed.started_ms,
            "ended_ms": self.ended_ms(),
            "wall_ms": self.wall_ms(),
            "state": self.state(),
            "has_records": self.listed.has_records,
            "tasks": self.value("tasks"),
            "spark_failed_tasks": self.value("spark_failed_tasks"),
            "instructions": self.value("instructions"),
            "spark_cpu_time_ns": self.value("spark_cpu_time_ns"),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be read or has no application, or the output cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = store::open(&args.place.store)?;
    let mut listed = list(store.as_ref())?;
    if listed.is_empty() {
        let message = format!(
            "{}: no application in it (analyzer ingest takes in records and event logs)",
            args.place.store
        );
        return Err(Failure::new(Exit::BadInput, message));
    }
    let all = listed.len();
    listed.truncate(args.top.unwrap_or(usize::MAX));
    let called: Vec<_> = listed.iter().map(|one| one.called.clone()).collect();
    let question = Question {
        by: &[Dimension::App],
        applications: &called,
        roles: &[],
        bucket_ms: 1_000,
        lists_tasks: false,
    };
    let answer = gather(store.as_ref(), &question)?;
    let lines: Vec<_> = listed
        .into_iter()
        .map(|listed| {
            let mut row = Row::default();
            let own = answer.rows.iter().filter(|(key, _)| {
                key.application.as_ref().is_some_and(|name| name.0 == listed.called)
            });
            own.filter(|(key, _)| key.part == crate::report::key::Part::Tasks)
                .for_each(|(_, one)| row.join(one));
            Line { listed, row }
        })
        .collect();
    let mut out = match args.format {
        Format::Table => Output::new(None)?,
        _ => Output::data(None)?,
    };
    let printed = match args.format {
        Format::Table => table(&mut out, &lines, all),
        Format::Json => json_lines(&mut out, &lines),
        Format::Csv => csv(&mut out, &lines),
    };
    out.finish(printed)?;
    Ok(Exit::Success.into())
}

fn table(out: &mut impl Write, lines: &[Line], all: usize) -> io::Result<()> {
    let heads = ["application", "name", "started (UTC)", "wall", "state", "tasks", "instrs"];
    let clipped = |text: String, width: usize| match text.chars().count() <= width {
        true => text,
        false => text.chars().take(width - 2).chain("..".chars()).collect(),
    };
    let cells: Vec<[String; 7]> = lines
        .iter()
        .map(|line| {
            let started = line.listed.started_ms.map(|ms| utc(ms / 60_000 * 60_000));
            let started = started.map(|text| text.chars().take(16).collect::<String>());
            let failed = line.value("spark_failed_tasks").filter(|failed| *failed > 0);
            let failed = failed.map(|failed| format!(" {failed}f")).unwrap_or_default();
            let name = line.listed.app.name.as_deref().map(printable);
            let figure =
                |name: &str| Figure::parse(name).map_or("-".into(), |one| cell(&line.row, one));
            [
                printable(&line.listed.called),
                clipped(name.unwrap_or("-".into()), 18),
                started.unwrap_or("-".into()),
                line.wall_ms().map_or("-".into(), |ms| human(ms, Scale::Milliseconds)),
                line.state().to_owned(),
                format!("{}{failed}", figure("tasks")),
                figure("instructions"),
            ]
        })
        .collect();
    let width = |at: usize| {
        let own = cells.iter().map(|line| line[at].chars().count());
        own.chain([heads[at].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let print = |line: &[String]| -> String {
        let cell = |(at, text): (usize, &String)| match at {
            0..=2 | 4 => format!("{text:<width$}", width = widths[at]),
            _ => format!("{text:>width$}", width = widths[at]),
        };
        line.iter().enumerate().map(cell).collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    let head = print(&heads.map(str::to_owned));
    writeln!(out, "{HEADING}{head}{HEADING:#}")?;
    for line in &cells {
        writeln!(out, "{}", print(line))?;
    }
    if lines.iter().any(|line| line.value("spark_failed_tasks") > Some(0)) {
        writeln!(out, "f: of them failed or killed")?;
    }
    if lines.len() < all {
        writeln!(out, "and {} older ones", all - lines.len())?;
    }
    Ok(())
}

fn json_lines(out: &mut impl Write, lines: &[Line]) -> io::Result<()> {
    let all: Vec<_> = lines.iter().map(Line::json).collect();
    let text = serde_json::to_string_pretty(&json!({ "applications": all }))?;
    writeln!(out, "{text}")
}

fn csv(out: &mut impl Write, lines: &[Line]) -> io::Result<()> {
    for (at, line) in lines.iter().enumerate() {
        let Value::Object(fields) = line.json() else { continue };
        if at == 0 {
            let heads: Vec<_> = fields.keys().cloned().collect();
            write!(out, "{}\r\n", heads.join(","))?;
        }
        let cells: Vec<_> = fields.values().map(csv_cell).collect();
        write!(out, "{}\r\n", cells.join(","))?;
    }
    Ok(())
}
