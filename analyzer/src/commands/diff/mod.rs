//! `analyzer diff`: what changed between two runs, per stage and figure, and whether it is more than noise.

mod change;
mod matching;
mod print;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use crate::commands::diff::change::{Change, Matched, Runs, Values, Verdict, add_in_order};
use crate::commands::diff::matching::Matching;
use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::report::answer::Answer;
use crate::report::figure::{Figure, Scale};
use crate::report::gather::gather;
use crate::report::key::{Dimension, Name, Part};
use crate::report::question::Question;
use crate::report::rows::Row;
use crate::store::{self, Address};

/// Compare runs of a job or program, per stage or process and figure
///
/// A and B are stores, of which every application with records is a run; or chosen runs: STORE#APP,APP; or
/// results of `trace --json`, each a run: FILE,FILE. Values are medians over the runs of a side. With
/// several runs on both sides a change counts as more than noise if the sides' ranges do not overlap, and,
/// with two or three runs, lie further apart than the wider of them is wide; with one run there is no telling, and "?" says so.
///
/// Stages are matched by what they do (operators of their query, or call), their numbers of tasks and the stages around them,
/// as Spark gives ids anew in each run; those that nothing tells apart are compared together; without an event log
/// by their ids; processes by their names and order. Counts are exact, executions are not: a JVM compiles by time, and three
/// runs of one short job differed by 10 %.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What was before
    #[arg(value_name = "A")]
    a: Side,

    /// What is now
    #[arg(value_name = "B")]
    b: Side,

    /// The figures to compare, by the names that `report --format json` has
    #[arg(long, visible_alias = "metrics", value_delimiter = ',', value_parser = Figure::parse, value_name = "LIST")]
    columns: Vec<Figure>,

    /// Leave out changes of fewer percent, and those within noise (table and markdown)
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    threshold: f64,

    /// Exit with 1 if a figure of any stage rose by more than this, beyond noise where there are several runs
    #[arg(long, value_name = "PERCENT")]
    fail_above: Option<f64>,

    /// How to print; JSON holds every figure, exactly
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Write to this file, which appears whole, instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For documents and issues
    Markdown,
}

/// The figures that are compared behind the tasks and [`counted`] unless others are chosen.
const FIGURES: [&str; 8] = [
    "syscall_calls",
    "file_bytes_in",
    "file_bytes_out",
    "socket_bytes_in",
    "socket_bytes_out",
    "spark_run_time_ms",
    "spark_cpu_time_ns",
    "spark_shuffle_bytes",
];

/// What the engine counts, with the bytes that are read and written together.
fn counted() -> Vec<Figure> {
    let mut counted: Vec<Figure> = Vec::new();
    for figure in Figure::of_engine() {
        let figure = if figure.scale() == Scale::Bytes { Figure::MemoryBytes } else { figure };
        if !counted.contains(&figure) {
            counted.push(figure);
        }
    }
    counted
}

/// One side: a store, and the runs of it if they were chosen.
#[derive(Clone, Debug)]
struct Side {
    address: Address,
    runs: Vec<String>,
}

fn chosen(runs: &str) -> Vec<String> {
    runs.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

impl FromStr for Side {
    type Err = <Address as FromStr>::Err;

    fn from_str(text: &str) -> Result<Side, Self::Err> {
        let (address, runs) = match text.rsplit_once('#') {
            Some((address, runs)) => (address, chosen(runs)),
            None => (text, Vec::new()),
        };
        let address = if address.is_empty() { store::DEFAULT } else { address };
        Ok(Side { address: address.parse()?, runs })
    }
}

/// Runs the command.
///
/// # Errors
/// When a store cannot be read or has no such run, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let figures: Vec<_> = match args.columns.as_slice() {
        [] => {
            let named = FIGURES.iter().filter_map(|name| Figure::parse(name).ok());
            [Figure::Tasks].into_iter().chain(counted()).chain(named).collect()
        }
        chosen => chosen.to_vec(),
    };
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let mut matching = Matching::default();
    let firsts = [&a, &b].map(|side| match side {
        Found::Traces(_) => 0,
        Found::Store(answer) => add_runs(answer, &mut matching),
    });
    let [a, b] = [(a, 0), (b, firsts[0])].map(|(side, first)| match side {
        Found::Traces(runs) => runs,
        Found::Store(answer) => runs_of(&answer, &matching, first),
    });
    let changes = compare(&a, &b, &figures);
    let path = args.output.as_deref();
    let mut out = match args.format {
        Format::Table => Output::new(path)?,
        Format::Markdown | Format::Json => Output::data(path)?,
    };
    let printed = match args.format {
        Format::Table => print::table(&mut out, [&a, &b], &changes, args.threshold),
        Format::Markdown => print::markdown(&mut out, [&a, &b], &changes, args.threshold),
        Format::Json => print::json(&mut out, [&a, &b], &changes),
    };
    out.finish(printed)?;
    let has_risen = |change: &Change| {
        let rose = |limit: &f64| match change.percent() {
            Some(percent) => percent > *limit,
            // From nothing to something.
            None => change.a.zip(change.b).is_some_and(|(a, b)| b.median > a.median),
        };
        change.verdict() != Some(Verdict::Within) && args.fail_above.as_ref().is_some_and(rose)
    };
    Ok(match changes.iter().any(has_risen) {
        true => Exit::Partial.into(),
        false => Exit::Success.into(),
    })
}

/// A side as it was read.
enum Found {
    Traces(Runs),
    Store(Box<Answer>),
}

/// Reads the runs of a side.
fn read(side: &Side) -> Result<Found, Failure> {
    if side.runs.is_empty()
        && let Some(names) = side.address.folder().to_str().filter(|names| traces::are_files(names))
    {
        return traces::read(names).map(Found::Traces);
    }
    let store = store::open(&side.address)?;
    let by = [Dimension::App, Dimension::Stage];
    let question = Question {
        by: &by,
        applications: &side.runs,
        roles: &[],
        bucket_ms: 1_000,
        lists_tasks: false,
    };
    let answer = gather(store.as_ref(), &question)?;
    if let Some(id) = side.runs.iter().find(|id| !answer.known_applications.contains(*id)) {
        let known: Vec<_> = answer.known_applications.iter().cloned().collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("{}: application {id} is not there (there: {known})", side.address);
        return Err(Failure::new(Exit::BadInput, message));
    }
    if applications(&answer).is_empty() {
        let message = format!("{}: no run to compare: no executor and no task in it", side.address);
        return Err(Failure::new(Exit::BadInput, message));
    }
    Ok(Found::Store(Box::new(answer)))
}

/// The applications of an answer, each a run.
fn applications(answer: &Answer) -> Vec<Name> {
    let mut all: Vec<_> =
        answer.rows.iter().filter_map(|(key, _)| key.application.clone()).collect();
    all.dedup();
    all
}

/// Adds the stages of all runs of an answer to those that are matched; how many runs there are.
fn add_runs(answer: &Answer, matching: &mut Matching) -> usize {
    let applications = applications(answer);
    for application in &applications {
        let mut stages: BTreeMap<i64, u64> = BTreeMap::new();
        for (key, row) in answer.rows.iter() {
            if let (Part::Tasks, Some((stage, _)), true) =
                (key.part, key.stage, key.application.as_ref() == Some(application))
            {
                *stages.entry(stage).or_default() += row.said(Figure::Tasks).value().unwrap_or(0);
            }
        }
        matching.add(answer, &application.0, &stages);
    }
    applications.len()
}

/// The runs of an answer, of which the first has this number among those that were matched.
fn runs_of(answer: &Answer, matching: &Matching, first: usize) -> Runs {
    let mut runs = Runs { ids: Vec::new(), order: Vec::new(), rows: BTreeMap::new() };
    for (number, application) in applications(answer).into_iter().enumerate() {
        let own = answer.rows.iter().filter(|row| row.0.application.as_ref() == Some(&application));
        let mut of_run: BTreeMap<Matched, (BTreeSet<i64>, Row)> = BTreeMap::new();
        let mut order = Vec::new();
        for (key, row) in own {
            let matched = match (key.part, key.stage) {
                (Part::Outside | Part::Whole, _) => Matched::Outside,
                (Part::Tasks, None) => Matched::Stage(usize::MAX, "unknown stage".into(), 1),
                (Part::Tasks, Some((stage, _))) => match matching.of(first + number, stage) {
                    Some((place, name, alike)) => Matched::Stage(place, name.to_owned(), alike),
                    None => Matched::Stage(usize::MAX, "unknown stage".into(), 1),
                },
            };
            if !order.contains(&matched) {
                order.push(matched.clone());
            }
            for one in [matched, Matched::All] {
                let (stages, sum) = of_run.entry(one).or_default();
                stages.extend(key.stage.map(|stage| stage.0));
                sum.join(row);
            }
        }
        order.push(Matched::All);
        for (matched, (stages, row)) in of_run {
            let side = runs.rows.entry(matched).or_default();
            side.stages.extend(stages);
            side.rows.push(row);
        }
        add_in_order(&mut runs.order, order);
        runs.ids.push(application.0.clone());
    }
    runs
}

fn compare(a: &Runs, b: &Runs, figures: &[Figure]) -> Vec<Change> {
    let mut order = a.order.clone();
    add_in_order(&mut order, b.order.clone());
    let change = |matched: &Matched, figure: Figure| Change {
        matched: matched.clone(),
        figure,
        a: Values::of(a.rows.get(matched), figure),
        b: Values::of(b.rows.get(matched), figure),
    };
    order.iter().flat_map(|matched| figures.iter().map(|one| change(matched, *one))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::diff::print::percent_cell;

    fn change(a: (u64, u64, u64, usize), b: (u64, u64, u64, usize)) -> Change {
        let values = |(least, median, most, runs)| Some(Values { least, median, most, runs });
        Change { matched: Matched::All, figure: Figure::Tasks, a: values(a), b: values(b) }
    }

    #[test]
    fn ranges_that_overlap_are_noise() {
        let overlapping = change((90, 100, 110, 3), (105, 120, 130, 3));
        assert_eq!(overlapping.verdict(), Some(Verdict::Within));
        assert!(!overlapping.is_notable(0.0));
        let near = change((90, 100, 110, 3), (111, 120, 130, 2));
        assert_eq!(
            near.verdict(),
            Some(Verdict::Within),
            "two or three runs may do that by chance"
        );
        let apart = change((90, 100, 110, 4), (111, 120, 130, 4));
        assert_eq!((apart.verdict(), apart.percent()), (Some(Verdict::Beyond), Some(20.0)));
        let far = change((131, 140, 150, 3), (90, 100, 110, 2));
        assert_eq!(far.verdict(), Some(Verdict::Beyond));
        assert_eq!(change((7, 7, 7, 2), (8, 8, 8, 2)).verdict(), Some(Verdict::Beyond));
        let single = change((100, 100, 100, 1), (120, 120, 120, 1));
        assert_eq!(single.verdict(), Some(Verdict::NoTelling));
        assert!(single.is_notable(19.9) && !single.is_notable(20.1));
    }

    #[test]
    fn from_nothing_there_is_no_percentage() {
        let risen = change((0, 0, 0, 1), (5, 5, 5, 1));
        assert_eq!((risen.percent(), percent_cell(&risen).as_str()), (None, "from 0"));
        assert!(risen.is_notable(50.0));
        assert_eq!(change((0, 0, 0, 1), (0, 0, 0, 1)).percent(), Some(0.0));
    }

    #[test]
    fn sides_name_stores_and_runs() {
        let side: Side = "/data/runs#app-1,app-2".parse().unwrap();
        assert_eq!((side.address.to_string().as_str(), side.runs.len()), ("/data/runs", 2));
        let side: Side = "#app-1".parse().unwrap();
        assert_eq!(side.address.to_string(), store::DEFAULT);
        assert!("/data/runs".parse::<Side>().unwrap().runs.is_empty());
    }
}
