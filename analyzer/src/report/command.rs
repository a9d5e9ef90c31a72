//! The command line of `analyzer report`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::figure::{Block, Figure, default_blocks};
use super::gather::{Question, gather};
use super::html;
use super::key::Dimension;
use super::print::Report;
use super::spread::Measure;
use super::spread_print;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::store::{self, OfStore, StartSpark};

/// Say where the work of Spark jobs went
///
/// Rows are per application, node, executor, process, thread, directory, job, stage, task or time, or combined
/// (--by node,stage), and reconcile: all of them together are the totals of the executors' processes. What is unknown is shown as
/// "-" (null in JSON, empty in CSV), never as 0; a sum that lacks a part is marked "+" (listed in
/// "at_least").
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: OfStore,

    /// Who reads the store and sums up
    #[arg(long, value_enum, default_value_t = Engine::Local)]
    engine: Engine,

    /// The cluster manager for --engine spark, as spark-submit takes it (spark://HOST:7077, yarn, k8s://...,
    /// local[*]); by default what Spark's own conf says
    #[arg(long, value_name = "URL")]
    master: Option<String>,

    /// A property for --engine spark, as spark-submit's --conf (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    spark_conf: Vec<String>,

    /// What rows are per, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "stage", value_name = "LIST")]
    by: Vec<Dimension>,

    /// Width of the buckets of --by time (1h, 10m, 30s, 500ms)
    ///
    /// A bucket has what was executed in it by its node's clock. What was measured over several buckets is in a row of its
    /// own that says so ("+20s" after the time; time_ms and until_ms): no figure is divided by guess. How fine that is, ingest
    /// decides. With --snapshots last (the default) a task is one piece, from its start to its end. With --snapshots all it is cut at
    /// each snapshot (as often as sparkanalyzer.toml has them written, a second by default), with --snapshots EVERY at one in so
    /// much time. Buckets ten times as wide as that have most of it to themselves. What Spark says of a task, and the task itself, is in the row of
    /// all of its time. Work outside tasks has no time.
    #[arg(long, value_parser = duration::parse, default_value = "10s", value_name = "TIME")]
    bucket: Duration,

    /// Write to this file, which appears whole, instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Tables as wide as their columns want, instead of 80 columns
    #[arg(long)]
    wide: bool,

    /// How to print; JSON, CSV and Parquet hold every figure, exactly
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Only this application (repeatable)
    #[arg(long, value_name = "ID")]
    app: Vec<String>,

    /// Processes of these roles, or all; by default executors and what ran tasks (local mode)
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    roles: Vec<String>,

    /// Also say how each figure is spread over a stage's tasks: minimum, quartiles, p95, maximum, skew and
    /// stragglers (table and json; html always has it)
    #[arg(long)]
    spread: bool,

    /// The figures to show, by the names that JSON has
    #[arg(long, visible_alias = "metrics", value_delimiter = ',', value_parser = Figure::parse, value_name = "LIST")]
    columns: Vec<Figure>,
}

/// The values of `--engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    /// This program, on this machine
    Local,
    /// Your own Spark, where SPARK_HOME or PATH has its spark-submit: for stores that only Spark reaches
    /// (hdfs://..., s3a://...), or of billions of records; the same figures
    Spark,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people, 80 columns wide
    Table,
    /// For programs
    Json,
    /// For spreadsheets
    Csv,
    /// For Spark, DuckDB, pandas; needs --output unless standard output is no terminal
    Parquet,
    /// For documents and issues
    Markdown,
    /// For a browser: one file with timeline, plots and tables of every dimension
    Html,
}

/// What `--spread` shows unless columns are chosen; durations are always shown.
const SPREAD_FIGURES: [&str; 2] = ["instructions", "syscall_calls"];

/// Runs the command.
///
/// # Errors
/// When there is no store or it cannot be read, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let is_page = args.format == Format::Html;
    let by = if is_page { html::BY.to_vec() } else { Dimension::implied(&args.by) };
    let figures = figures_for(&by, &args.columns, Figure::all)?;
    let store = match args.engine {
        Engine::Local if args.master.is_some() || !args.spark_conf.is_empty() => {
            let message = "--master and --spark-conf are for --engine spark";
            return Err(Failure::new(Exit::Usage, message));
        }
        Engine::Local => store::open(&args.place.store)?,
        Engine::Spark => {
            let start = StartSpark { master: args.master.clone(), conf: args.spark_conf.clone() };
            store::open_by_spark(&args.place.store, &start, &args.app)?
        }
    };
    let bucket_ms = i64::try_from(args.bucket.as_millis()).unwrap_or(i64::MAX);
    let question = Question { by: &by, applications: &args.app, roles: &args.roles, bucket_ms };
    let answer = gather(store.as_ref(), &question)?;
    for id in &args.app {
        if !answer.known_applications.contains(id) {
            let known: Vec<_> = answer.known_applications.iter().cloned().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("application {id} is not in the store (there: {known})");
            return Err(Failure::new(Exit::BadInput, message));
        }
    }
    if answer.rows.is_empty() {
        let mut message =
            format!("{}: nothing to report: no executor and no task in it", args.place.store);
        for line in answer.notes.lines() {
            message.push_str(&format!("\nnote: {line}"));
        }
        return Err(Failure::new(Exit::BadInput, message));
    }
    let tasks = match args.spread && !is_page {
        true => {
            let question = Question { by: &html::BY, ..question };
            Some(gather(store.as_ref(), &question)?)
        }
        false => None,
    };
    let measures: Vec<_> = match args.columns.as_slice() {
        [] => SPREAD_FIGURES.iter().filter_map(|name| Figure::parse(name).ok()).collect(),
        chosen => chosen.to_vec(),
    };
    let measures: Vec<_> =
        measures.into_iter().map(Measure::Of).chain([Measure::Duration]).collect();
    let report = Report { answer: &answer, by: &by, is_wide: args.wide };
    let path = args.output.as_deref();
    let mut out = match args.format {
        Format::Parquet => Output::raw(path)?,
        Format::Table => Output::new(path)?,
        _ => Output::data(path)?,
    };
    let printed = match args.format {
        Format::Table if args.columns.is_empty() => report.table(&mut out, &default_blocks(&by)),
        Format::Table => {
            let columns = figures.iter().map(|figure| (*figure, figure.name())).collect();
            report.table(
                &mut out,
                &[Block { title: "Figures", columns, is_default: false, is_of_tasks: false }],
            )
        }
        Format::Json => {
            let spreads: Option<Vec<_>> = tasks.as_ref().map(|tasks| {
                let all = measures.iter();
                all.flat_map(|one| spread_print::json(tasks, *one, &|value| one.json(value)))
                    .collect()
            });
            let stragglers = tasks
                .as_ref()
                .map(|tasks| spread_print::stragglers_json(tasks, &|value| json!(value)));
            report.json(&mut out, &figures, spreads.zip(stragglers))
        }
        Format::Parquet if out.is_terminal() => {
            let message = "a Parquet file is nothing for a terminal: name a file by --output";
            return Err(Failure::new(Exit::Usage, message));
        }
        Format::Parquet => report.parquet(&mut out, &figures),
        Format::Csv => report.csv(&mut out, &figures),
        Format::Markdown => {
            let blocks = if args.columns.is_empty() {
                default_blocks(&by).into_iter().flat_map(|block| block.columns).collect()
            } else {
                figures.iter().map(|figure| (*figure, figure.name())).collect::<Vec<_>>()
            };
            report.markdown(&mut out, &blocks)
        }
        Format::Html => {
            let chosen = (!args.columns.is_empty()).then_some(figures.as_slice());
            let question = Question { by: &html::BY_DIRECTORY, ..question };
            let directories = gather(store.as_ref(), &question)?;
            html::print(&mut out, &answer, &directories, chosen)
        }
    };
    let printed = printed.and_then(|()| match (&tasks, args.format) {
        (Some(tasks), Format::Table) => spread_print::table(&mut out, tasks, &measures),
        _ => Ok(()),
    });
    out.finish(printed)?;
    Ok(Exit::Success.into())
}

/// The figures of rows by these dimensions: those that the user chose, or what of `others` they have.
///
/// # Errors
/// When directories are to be told together with what is a part of a process.
pub fn figures_for(
    by: &[Dimension],
    chosen: &[Figure],
    others: impl Fn() -> Vec<Figure>,
) -> Result<Vec<Figure>, Failure> {
    let refuse = |what: &str| {
        let message =
            format!("{what} is of parts of processes, and directories are told of whole ones");
        Failure::new(Exit::Usage, message)
    };
    if let Some(part) = Dimension::not_with_directories(by) {
        return Err(refuse(&format!("--by {}", part.name())));
    }
    if let Some(figure) = chosen.iter().find(|figure| !figure.is_of(by)) {
        return Err(refuse(&format!("--columns {}", figure.name())));
    }
    if !chosen.is_empty() {
        return Ok(chosen.to_vec());
    }
    Ok(others().into_iter().filter(|figure| figure.is_of(by)).collect())
}
