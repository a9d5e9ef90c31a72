//! The command line of `analyzer report`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::console::terminal;
use crate::report::answer::Answer;
use crate::report::figure::{Block, Figure, Group, blocks};
use crate::report::findings::facts::Facts;
use crate::report::findings::rules::Finding;
use crate::report::gather::gather;
use crate::report::key::Dimension;
use crate::report::overview::Overview;
use crate::report::print::Report;
use crate::report::question::Question;
use crate::report::spread::Measure;
use crate::report::where_filter::Condition;
use crate::report::words::WIDTH;
use crate::report::{applications, findings, html, plan, spread_print};
use crate::store::{self, OfStore, StartSpark};
use crate::text::duration;

/// Say where the work of Spark jobs went, and what is wrong with them
///
/// Without options: the newest application, what it cost, findings with evidence and remedy, and a line per stage. With --by
/// rows are per application, node, executor, process, thread, directory, job, stage, task or time, or combined
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

    /// What rows are per, comma-separated; stage for formats other than the first screen
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    by: Vec<Dimension>,

    /// Groups of figures to show in tables, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    figures: Vec<Group>,

    /// Only rows for which this holds, such as 'stage=3 and instructions>1e9': keys and figures, = != < <= > >= ~
    /// (contains), and, or, not, parentheses
    #[arg(long, value_name = "CONDITION")]
    r#where: Option<Condition>,

    /// Rows with the most of this figure first (-FIGURE: with the least)
    #[arg(long, value_name = "FIGURE", value_parser = sort_order, allow_hyphen_values = true)]
    sort: Option<(Figure, bool)>,

    /// At most so many rows, those with the most instructions unless --sort says another figure
    #[arg(long, value_name = "N")]
    top: Option<usize>,

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

    /// How to print; JSON holds every figure, exactly, CSV and Parquet those that matter most unless --figures or --columns say others
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Only this application: its id, its name, a pattern with * and ?, or latest (repeatable)
    #[arg(long, value_name = "ID|NAME|PATTERN|latest")]
    app: Vec<String>,

    /// Processes of these roles, or all; by default executors and what ran tasks (local mode)
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    roles: Vec<String>,

    /// Also say how each figure is spread over a stage's tasks: minimum, quartiles, p95, maximum, skew and
    /// stragglers (table and json; html always has it)
    #[arg(long)]
    spread: bool,

    /// The plans of SQL queries instead: each operator with its stages, rows and bytes (table and json)
    #[arg(long, conflicts_with_all = ["by", "spread", "columns", "figures", "where", "sort", "top"])]
    plan: bool,

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
    let is_first_screen = args.format == Format::Table
        && args.by.is_empty()
        && args.figures.is_empty()
        && args.columns.is_empty()
        && args.r#where.is_none()
        && args.sort.is_none()
        && !args.spread
        && !args.plan;
    let mut asked = if args.by.is_empty() { vec![Dimension::Stage] } else { args.by.clone() };
    if let Some(condition) = &args.r#where {
        // What is asked of must be told apart.
        condition.dimensions(&mut asked);
    }
    let by = match (is_page, is_first_screen) {
        (true, _) => html::BY.to_vec(),
        (_, true) => vec![Dimension::App, Dimension::Stage],
        _ => Dimension::implied(&asked),
    };
    let is_table_of_all =
        matches!(args.format, Format::Csv | Format::Parquet) && !args.figures.contains(&Group::All);
    let figures = figures_for(&by, &args.columns, || match is_table_of_all {
        true => {
            let chosen = if args.figures.is_empty() { &[Group::Main][..] } else { &args.figures };
            let mut columns: Vec<Figure> = Vec::new();
            for (figure, _) in blocks(&by, chosen).into_iter().flat_map(|block| block.columns) {
                if !columns.contains(&figure) {
                    columns.push(figure);
                }
            }
            columns
        }
        false => Figure::all(),
    })?;
    let store = match args.engine {
        Engine::Local if args.master.is_some() || !args.spark_conf.is_empty() => {
            let message = "--master and --spark-conf are for --engine spark";
            return Err(Failure::new(Exit::Usage, message));
        }
        Engine::Local => store::open(&args.place.store)?,
        Engine::Spark => {
            let start = StartSpark { master: args.master.clone(), conf: args.spark_conf.clone() };
            store::open_by_spark(&args.place.store, &start, &[])?
        }
    };
    let listed = applications::list(store.as_ref())?;
    let mut apps = applications::chosen(&listed, &args.app)?;
    if is_first_screen && apps.is_empty() {
        // An event log alone says less than one with records.
        let newest = listed.iter().find(|one| one.has_records).or(listed.first());
        apps.extend(newest.map(|one| one.called.clone()));
    }
    let has_spreads = [Format::Table, Format::Json, Format::Html].contains(&args.format);
    if args.plan && ![Format::Table, Format::Json].contains(&args.format) {
        let message = "--plan is for the formats table and json; the page always has it";
        return Err(Failure::new(Exit::Usage, message));
    }
    if args.spread && !has_spreads {
        let message = "--spread is for the formats table and json; html always has it";
        return Err(Failure::new(Exit::Usage, message));
    }
    let bucket_ms = i64::try_from(args.bucket.as_millis()).unwrap_or(i64::MAX);
    // Findings look at single tasks, which Spark keeps to itself.
    let has_findings = is_page
        || args.engine == Engine::Local
            && (is_first_screen || args.format == Format::Json && args.by.is_empty());
    let lists_tasks = has_findings;
    let question =
        Question { by: &by, applications: &apps, roles: &args.roles, bucket_ms, lists_tasks };
    let mut answer = gather(store.as_ref(), &question)?;
    if answer.rows.is_empty() {
        let mut message =
            format!("{}: nothing to report: no executor and no task in it", args.place.store);
        for line in answer.notes.lines() {
            message.push_str(&format!("\nnote: {line}"));
        }
        return Err(Failure::new(Exit::BadInput, message));
    }
    let width =
        if args.wide { usize::MAX } else { terminal::columns().unwrap_or(WIDTH).max(WIDTH) };
    if args.plan {
        let mut out = Output::new(args.output.as_deref())?;
        let printed = match args.format {
            Format::Json => writeln!(out, "{}", json!({ "queries": plan::json(&answer) })),
            _ => plan::table(&mut out, &answer),
        };
        out.finish(printed)?;
        return Ok(Exit::Success.into());
    }
    if is_first_screen {
        return first_screen(&args, &answer, listed.len(), width);
    }
    let findings = (has_findings && args.format == Format::Json).then(|| findings_of(&answer));
    let all_rows = answer.rows.len();
    if let Some(condition) = &args.r#where {
        let names = std::mem::take(&mut answer.stage_names);
        answer.rows.retain(|key, row| condition.is_shown(key, row, &names));
        answer.stage_names = names;
    }
    if args.sort.is_some() || args.top.is_some() {
        let (figure, is_ascending) =
            args.sort.unwrap_or((Figure::Metric(records::metric::INSTRUCTIONS), false));
        answer.rows.sort(figure, is_ascending, args.top);
    }
    if answer.rows.len() < all_rows {
        answer.notes.rows_left_out(all_rows - answer.rows.len(), all_rows);
    }
    let groups = match args.figures.as_slice() {
        [] => vec![Group::Main],
        chosen => chosen.to_vec(),
    };
    let tasks = match args.spread && !is_page {
        true => {
            let question = Question { by: &html::BY, lists_tasks: false, ..question };
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
        Format::Table if args.columns.is_empty() => report.table(&mut out, &blocks(&by, &groups)),
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
            report.json(&mut out, &figures, spreads.zip(stragglers), findings.as_deref())
        }
        Format::Parquet if out.is_terminal() => {
            let message = "a Parquet file is nothing for a terminal: name a file by --output";
            return Err(Failure::new(Exit::Usage, message));
        }
        Format::Parquet => report.parquet(&mut out, &figures),
        Format::Csv => report.csv(&mut out, &figures),
        Format::Markdown => {
            let blocks = if args.columns.is_empty() {
                blocks(&by, &groups).into_iter().flat_map(|block| block.columns).collect()
            } else {
                figures.iter().map(|figure| (*figure, figure.name())).collect::<Vec<_>>()
            };
            report.markdown(&mut out, &blocks)
        }
        Format::Html => {
            let chosen = (!args.columns.is_empty()).then_some(figures.as_slice());
            let question = Question { by: &html::BY_DIRECTORY, lists_tasks: false, ..question };
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

/// What `--sort` says: a figure, and whether the least comes first.
fn sort_order(word: &str) -> Result<(Figure, bool), String> {
    match word.strip_prefix('-') {
        Some(name) => Ok((Figure::parse(name)?, true)),
        None => Ok((Figure::parse(word)?, false)),
    }
}

/// The findings of all applications of an answer, with what reports call these.
fn findings_of(answer: &Answer) -> Vec<(String, Finding)> {
    let mut all = Vec::new();
    for application in answer.applications() {
        let facts = Facts::of(answer, &application);
        let found = findings::find(&facts);
        all.extend(found.into_iter().map(|one| (application.clone(), one)));
    }
    all
}

/// The newest application, or those that were asked for, one after the other.
fn first_screen(
    args: &Args,
    answer: &Answer,
    known: usize,
    width: usize,
) -> Result<ExitCode, Failure> {
    let mut out = Output::new(args.output.as_deref())?;
    let applications = answer.applications();
    let mut printed = Ok(());
    for application in &applications {
        let facts = Facts::of(answer, application);
        let findings = findings::find(&facts);
        let others = known.saturating_sub(applications.len());
        let (facts, findings) = (&facts, findings.as_slice());
        let overview = Overview { facts, findings, others, width, top: args.top };
        printed = printed.and_then(|()| overview.print(&mut out));
    }
    if applications.is_empty() {
        // Programs that are of no application.
        let by = [Dimension::App, Dimension::Stage];
        let report = Report { answer, by: &by, is_wide: args.wide };
        printed = report.table(&mut out, &blocks(&by, &[Group::Main]));
    }
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
