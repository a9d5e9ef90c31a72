//! `analyzer export`: a store's figures for other tools: Prometheus text, Chrome trace events.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::commands::report::figures_for;
use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::report::answer::Answer;
use crate::report::figure::Figure;
use crate::report::gather::gather;
use crate::report::glossary::{meaning, unit};
use crate::report::key::{Dimension, Key, Part};
use crate::report::question::Question;
use crate::report::rows::{Row, Said};
use crate::report::stage_names::StageName;
use crate::report::words::{stage_label, stage_text};
use crate::store::{self, OfStore};
use crate::text::duration;

/// Write a store's figures in the formats of other tools
///
/// Prometheus: text for node_exporter's textfile collector or a push gateway; a gauge per figure, labelled by
/// what --by says. What is unknown has no sample; lower bounds have the label bound="at_least".
///
/// Chrome: trace events for Perfetto (ui.perfetto.dev) or chrome://tracing; a lane per executor and core with
/// its tasks and their exact counts, jobs and stages above.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The format
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Format,

    #[command(flatten)]
    place: OfStore,

    /// Only this application (repeatable)
    #[arg(long, value_name = "ID")]
    app: Vec<String>,

    /// What samples are per, comma-separated (Prometheus)
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "node,stage",
        value_name = "LIST"
    )]
    by: Vec<Dimension>,

    /// Width of the buckets of --by time (1h, 10m, 30s, 500ms; Prometheus)
    #[arg(long, value_parser = duration::parse, default_value = "10s", value_name = "TIME")]
    bucket: Duration,

    /// The figures, by the names that `report --format json` has
    #[arg(long, visible_alias = "metrics", value_delimiter = ',', value_parser = Figure::parse, value_name = "LIST")]
    columns: Vec<Figure>,

    /// Write to this file, which appears whole, instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The values of `--to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Prometheus' text exposition format
    Prometheus,
    /// Chrome trace events (JSON), which Perfetto reads
    Chrome,
}

/// The figures of a sample or a task, unless others are chosen, behind tasks and what the engine counts.
const FIGURES: [&str; 11] = [
    "syscall_calls",
    "syscall_errors",
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

/// Runs the command.
///
/// # Errors
/// When the store cannot be read or is empty, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let by = match args.to {
        Format::Prometheus => Dimension::implied(&args.by),
        Format::Chrome => Dimension::implied(&[Dimension::Node, Dimension::Job, Dimension::Task]),
    };
    let figures = figures_for(&by, &args.columns, || {
        let tasks = [Figure::Tasks, Figure::FailedTasks].into_iter();
        let named = FIGURES.iter().filter_map(|name| Figure::parse(name).ok());
        tasks.chain(Figure::of_engine()).chain(named).collect()
    })?;
    let store = store::open(&args.place.store)?;
    let bucket_ms = i64::try_from(args.bucket.as_millis()).unwrap_or(i64::MAX);
    let question =
        Question { by: &by, applications: &args.app, roles: &[], bucket_ms, lists_tasks: false };
    let answer = gather(store.as_ref(), &question)?;
    if answer.rows.is_empty() {
        let message =
            format!("{}: nothing to export: no executor and no task in it", args.place.store);
        return Err(Failure::new(Exit::BadInput, message));
    }
    let spans = match args.to {
        Format::Prometheus => None,
        Format::Chrome => Some(Spans::of(&answer)),
    };
    if spans.as_ref().is_some_and(|spans| spans.all.is_empty() && answer.task_times.is_empty()) {
        let message = format!(
            "{}: nothing to show in a timeline: of no task, stage and job it is known when it ran (event logs know: \
             analyzer ingest --event-log)",
            args.place.store
        );
        return Err(Failure::new(Exit::BadInput, message));
    }
    let mut out = Output::data(args.output.as_deref())?;
    let printed = match &spans {
        None => prometheus(&mut out, &answer, &by, &figures),
        Some(spans) => chrome(&mut out, &answer, spans, &figures),
    };
    out.finish(printed)?;
    Ok(Exit::Success.into())
}

/// The dimensions of a row as names and values.
fn labels(key: &Key, by: &[Dimension]) -> Vec<(&'static str, String)> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut labels: Vec<_> = by
        .iter()
        .map(|one| {
            let value = match one {
                Dimension::App => key.application.as_ref().map(|name| name.0.clone()),
                Dimension::Node => key.node.as_ref().map(|name| name.0.clone()),
                Dimension::Executor => key.executor.as_ref().map(|name| name.0.clone()),
                Dimension::Process => key.process.clone(),
                Dimension::Thread => key.thread.as_ref().map(|thread| thread.tid.to_string()),
                Dimension::Directory => key.directory.clone(),
                Dimension::Time => key.time.map(|span| match span.is_bucket {
                    true => span.from_ms.to_string(),
                    false => format!("{}-{}", span.from_ms, span.until_ms),
                }),
                Dimension::Query => key.query.map(|query| query.to_string()),
                Dimension::Job => key.job.map(|job| job.to_string()),
                Dimension::Stage => key.stage.map(|stage| stage_label(stage.0, stage.1)),
                Dimension::Task => key.task.map(|task| task.to_string()),
            };
            (one.name(), text(value))
        })
        .collect();
    labels.push(("part", key.part.name().to_owned()));
    labels
}

/// A label's value as Prometheus wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn prometheus(
    out: &mut impl Write,
    answer: &Answer,
    by: &[Dimension],
    figures: &[Figure],
) -> io::Result<()> {
    for figure in figures {
        let name = format!("sparkanalyzer_{}", figure.name());
        let (meaning, unit) = (meaning(*figure), unit(*figure));
        writeln!(out, "# HELP {name} {meaning} ({unit})\n# TYPE {name} gauge")?;
        for (key, row) in answer.rows.iter() {
            let (value, bound) = match row.said(*figure) {
                Said::Exactly(value) => (value, "exact"),
                Said::AtLeast(value) => (value, "at_least"),
                Said::Unknown => continue,
            };
            let labels: Vec<_> = labels(key, by)
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let labels = labels.join(",");
            writeln!(out, "{name}{{{labels},bound=\"{bound}\"}} {}", figure.json(value))?;
        }
    }
    Ok(())
}

/// First and last ms since the epoch.
type Times = (i64, i64);
/// A task with its figures.
type TimedTask<'a> = (&'a Key, &'a Row, Times);

/// When jobs and stages ran, by the driver's clock.
struct Spans {
    /// (application, what it is, first ms, last ms)
    all: Vec<(String, String, i64, i64)>,
}

impl Spans {
    fn of(answer: &Answer) -> Spans {
        let shown: BTreeSet<_> =
            answer.rows.iter().filter_map(|(key, _)| Some(&key.application.as_ref()?.0)).collect();
        let mut all = Vec::new();
        for ((application, job), facts) in &answer.logs.jobs {
            if let Some((first, last)) = facts.submitted_ms.zip(facts.completed_ms) {
                all.push((application.clone(), format!("job {job}"), first, last));
            }
        }
        for (key, facts) in &answer.logs.stages {
            let (application, id, attempt) = key;
            if let Some((first, last)) = facts.submitted_ms.zip(facts.completed_ms) {
                let name = answer.stage_names.get(key).map(StageName::full).unwrap_or_default();
                let name = format!("stage {} {name}", stage_text(*id, Some(*attempt)));
                all.push((application.clone(), name.trim_end().to_owned(), first, last));
            }
        }
        all.retain(|(application, ..)| shown.contains(application));
        Spans { all }
    }
}

/// Writes events as they come, so that memory does not grow with them.
struct Events<'a, W> {
    out: &'a mut W,
    separator: &'static str,
}

impl<W: Write> Events<'_, W> {
    fn put(&mut self, event: &Value) -> io::Result<()> {
        write!(self.out, "{}\n{event}", std::mem::replace(&mut self.separator, ","))
    }

    fn name(&mut self, what: &str, pid: usize, tid: usize, name: &str) -> io::Result<()> {
        let args = json!({"name": name});
        self.put(&json!({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": args}))
    }

    /// A span; a trace viewer wants microseconds.
    fn span(
        &mut self,
        place: (usize, usize),
        name: &str,
        times: Times,
        args: &Value,
    ) -> io::Result<()> {
        self.put(&json!({
            "ph": "X",
            "name": name,
            "cat": name.split(' ').next(),
            "pid": place.0,
            "tid": place.1,
            "ts": times.0 * 1000,
            "dur": (times.1 - times.0).max(0) * 1000,
            "args": args,
        }))
    }
}

/// Puts spans side by side: the first lane that is free by then.
#[derive(Default)]
struct Lanes(Vec<i64>);

impl Lanes {
    fn take(&mut self, times: Times) -> usize {
        let lane = self.0.iter().position(|end| *end <= times.0).unwrap_or(self.0.len());
        if lane == self.0.len() {
            self.0.push(times.1);
        }
        self.0[lane] = times.1;
        lane
    }
}

fn chrome(
    out: &mut impl Write,
    answer: &Answer,
    spans: &Spans,
    figures: &[Figure],
) -> io::Result<()> {
    write!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    let mut events = Events { out, separator: "" };
    // A process per application for its jobs and stages, then one per executor.
    let mut of_application: BTreeMap<&str, Vec<(&str, Times)>> = BTreeMap::new();
    for (application, name, first, last) in &spans.all {
        of_application.entry(application).or_default().push((name, (*first, *last)));
    }
    let mut pid = 0;
    for (application, mut own) in of_application {
        pid += 1;
        let name = answer.application_names.get(application).map_or("", String::as_str);
        events.name("process_name", pid, 0, format!("{application} {name}").trim_end())?;
        own.sort_by_key(|(_, times)| times.0);
        for (first_lane, what) in [(0, "job "), (1_000, "stage ")] {
            let mut lanes = Lanes::default();
            for (name, times) in own.iter().filter(|(name, _)| name.starts_with(what)) {
                let lane = first_lane + lanes.take(*times);
                events.span((pid, lane), name, *times, &Value::Null)?;
            }
            for lane in 0..lanes.0.len() {
                let of = if first_lane == 0 { "jobs" } else { "stages" };
                events.name("thread_name", pid, first_lane + lane, of)?;
            }
        }
    }
    let mut of_executor: BTreeMap<_, Vec<TimedTask<'_>>> = BTreeMap::new();
    for (key, row) in answer.rows.iter().filter(|(key, _)| key.part == Part::Tasks) {
        let id = key.application.as_ref().map(|name| name.0.clone()).zip(key.task);
        // A task of unknown times has no place in a timeline.
        let Some(times) = id.and_then(|id| answer.task_times.get(&id)) else { continue };
        let executor = (&key.application, &key.node, &key.executor);
        of_executor.entry(executor).or_default().push((key, row, *times));
    }
    for ((_, node, executor), mut tasks) in of_executor {
        pid += 1;
        let text = |name: &Option<_>| -> String {
            name.as_ref().map_or("-".to_owned(), |name: &crate::report::key::Name| name.0.clone())
        };
        let name = format!("executor {} on {}", text(executor), text(node));
        events.name("process_name", pid, 0, &name)?;
        tasks.sort_by_key(|(_, _, times)| times.0);
        let mut lanes = Lanes::default();
        for (key, row, times) in tasks {
            let mut args = Map::new();
            args.insert("job".into(), json!(key.job));
            args.insert("stage".into(), json!(key.stage.map(|one| stage_text(one.0, one.1))));
            for figure in figures.iter().filter(|figure| **figure != Figure::Tasks) {
                match row.said(*figure) {
                    Said::Exactly(value) => args.insert(figure.name(), figure.json(value)),
                    Said::AtLeast(value) => {
                        args.insert(figure.name(), json!(format!("{}+", figure.json(value))))
                    }
                    Said::Unknown => None,
                };
            }
            let stage = key.stage.map_or("-".into(), |one| stage_text(one.0, one.1));
            let name = format!("task {} stage {stage}", key.task.unwrap_or(-1));
            events.span((pid, lanes.take(times)), &name, times, &Value::Object(args))?;
        }
        for lane in 0..lanes.0.len() {
            events.name("thread_name", pid, lane, &format!("core {lane}"))?;
        }
    }
    writeln!(events.out, "\n]}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn spans_that_overlap_get_lanes_of_their_own() {
        let mut lanes = Lanes::default();
        let taken = [(0, 10), (5, 7), (7, 9), (10, 12), (10, 11)].map(|times| lanes.take(times));
        assert_eq!(taken, [0, 1, 1, 0, 1]);
    }
}
