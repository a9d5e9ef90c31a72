//! The command line of `analyzer report`.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use serde_json::json;

use super::figure::{Block, Figure, default_blocks};
use super::gather::{Question, gather};
use super::html;
use super::print::Report;
use super::rows::Dimension;
use super::spread::Measure;
use super::spread_print;
use crate::exit::{Exit, Failure};
use crate::store::{self, Address};

/// Say where the work of Spark jobs went
///
/// Rows are per node, stage, task, executor, process or application, or combined (--by node,stage), and
/// reconcile: all of them together are the totals of the executors' processes. What is unknown is shown as
/// "-" (null in JSON, empty in CSV), never as 0; a sum that lacks a part is marked "+" (listed in
/// "at_least").
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The store that `ingest` filled: a folder, or mysql://USER@HOST[:PORT]/DATABASE
    #[arg(
        long,
        visible_alias = "mysql",
        value_name = "DIR|URL",
        default_value = "sparkanalyzer-store"
    )]
    store: Address,

    /// What rows are per, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "stage", value_name = "LIST")]
    by: Vec<Dimension>,

    /// How to print; JSON and CSV hold every figure, exactly
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

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people, 80 columns wide
    Table,
    /// For programs
    Json,
    /// For spreadsheets
    Csv,
    /// For documents and issues
    Markdown,
    /// For a browser: one file with timeline, plots and tables of every dimension
    Html,
}

/// What `--spread` shows unless columns are chosen; durations are always shown.
const SPREAD_FIGURES: [&str; 2] = ["instructions", "syscall_calls"];

/// What rows are told apart by: what was asked for and what that implies.
fn implied(asked: &[Dimension]) -> Vec<Dimension> {
    let mut by = asked.to_vec();
    if by.contains(&Dimension::Task) {
        by.extend([Dimension::Stage, Dimension::Executor]);
    }
    // Stage and executor ids mean something within their application only.
    if by.iter().any(|one| matches!(one, Dimension::Stage | Dimension::Executor)) {
        by.push(Dimension::App);
    }
    by.sort();
    by.dedup();
    by
}

/// Runs the command.
///
/// # Errors
/// When there is no store or it cannot be read, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let store = store::open(&args.store)?;
    let is_page = args.format == Format::Html;
    let by = if is_page { html::BY.to_vec() } else { implied(&args.by) };
    let question = Question { by: &by, applications: &args.app, roles: &args.roles };
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
            format!("{}: nothing to report: no executor and no task in it", args.store);
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
    let report = Report { answer: &answer, by: &by };
    let figures = if args.columns.is_empty() { Figure::all() } else { args.columns.clone() };
    let mut out = BufWriter::new(anstream::AutoStream::auto(io::stdout()).lock());
    let printed = match args.format {
        Format::Table if args.columns.is_empty() => report.table(&mut out, &default_blocks()),
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
                all.flat_map(|one| spread_print::json(tasks, *one, |value| json!(value))).collect()
            });
            report.json(&mut out, &figures, spreads.as_deref())
        }
        Format::Csv => report.csv(&mut out, &figures),
        Format::Markdown => {
            let blocks = if args.columns.is_empty() {
                default_blocks().into_iter().flat_map(|block| block.columns).collect()
            } else {
                figures.iter().map(|figure| (*figure, figure.name())).collect::<Vec<_>>()
            };
            report.markdown(&mut out, &blocks)
        }
        Format::Html => {
            let chosen = (!args.columns.is_empty()).then_some(figures.as_slice());
            match html::print(&mut out, &answer, store.as_ref(), chosen) {
                Ok(read) => {
                    read?;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
    };
    let printed = printed.and_then(|()| match (&tasks, args.format) {
        (Some(tasks), Format::Table) => spread_print::table(&mut out, tasks, &measures),
        _ => Ok(()),
    });
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::BadOutput, format!("standard output: {error}")))
        }
        _ => Ok(Exit::Success.into()),
    }
}
