//! `analyzer dump`: what a record file holds, record by record.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use records::header::Header;
use records::metric::{METRICS, MetricSet};
use records::{Event, Flags, Group, LeftOut, Segment, TaskId, Values, notice};
use serde_json::{Map, Value, json};

use crate::commands::metric_list;
use crate::console::exit::{Exit, Failure};
use crate::console::output;
use crate::console::terminal::{ERROR, WARNING};
use crate::input::record_files::{RecordFile, describe};
use crate::text::field::{hex, known};
use crate::text::shown;
pub use crate::text::shown::{arguments, printable};

/// Show what record files hold
///
/// Header, then every group of records in the order of the file. Damaged and incomplete records are
/// left out and counted; the exit code is then 1. JSON is one document per file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Record files (.sar)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Counters to show: groups, classes or metrics by name, comma-separated; all by default
    #[arg(long, value_delimiter = ',', value_parser = metric_list::parse, value_name = "LIST")]
    metrics: Vec<metric_list::Choice>,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Runs the command.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let chosen = args.metrics.iter().fold(MetricSet::EMPTY, |set, one| set.union(one.metrics));
    let chosen = if args.metrics.is_empty() { MetricSet::ALL } else { chosen };
    let mut out = output::standard_data();
    let mut exit = Exit::Success;
    for path in &args.files {
        let file = match RecordFile::load(path) {
            Ok(file) => file,
            Err(message) => {
                complain(&message);
                exit = Exit::BadInput;
                continue;
            }
        };
        let segment = match file.segment() {
            Ok(segment) => segment,
            Err(message) => {
                complain(&message);
                exit = Exit::BadInput;
                continue;
            }
        };
        let name = path.to_string_lossy();
        let printed = match args.format {
            Format::Table => print_table(&mut out, &name, &segment, chosen),
            Format::Json => print_json(&mut out, &name, &segment, chosen),
        };
        match printed.and_then(|left_out| out.flush().map(|()| left_out)) {
            Ok(left_out) if left_out.total() > 0 => {
                let reasons = describe(&left_out);
                let message = shown::message(&format!("{name}: left out {reasons}"));
                anstream::eprintln!("{WARNING}warning:{WARNING:#} {message}");
                if exit == Exit::Success {
                    exit = Exit::Partial;
                }
            }
            Ok(_) => {}
            // The reader of a pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => {
                return Err(Failure::new(Exit::BadOutput, format!("standard output: {error}")));
            }
        }
    }
    Ok(exit.into())
}

fn complain(message: &str) {
    anstream::eprintln!("{ERROR}error:{ERROR:#} {}", shown::message(message));
}

fn flag_names(flags: Flags) -> Vec<&'static str> {
    Flags::NAMES.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect()
}

fn header_texts(header: &Header<'_>) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("node", known(header.node)),
        ("node_source", known(header.node_source)),
        ("cluster", known(header.cluster)),
        ("host", known(header.host)),
        ("boot_id", known(header.boot_id)),
        ("role", known(header.role)),
        ("application_id", known(header.application_id)),
        ("application_attempt", known(header.application_attempt)),
        ("executor_id", known(header.executor_id)),
        ("comm", known(header.comm)),
        ("exe", known(header.exe)),
        ("tracer", known(header.tracer)),
        ("starts_at", known(header.starts_at)),
        ("container", known(header.container)),
        ("pod", known(header.pod)),
    ]
}

fn print_table(
    out: &mut impl Write,
    name: &str,
    segment: &Segment<'_>,
    chosen: MetricSet,
) -> io::Result<LeftOut> {
    let header = segment.header();
    writeln!(out, "{name}")?;
    let field = |out: &mut dyn Write, key: &str, value: &str| {
        writeln!(out, "  {key:<20} {}", printable(value))
    };
    field(out, "segment", &header.segment.to_string())?;
    field(out, "process_id", &hex(&header.process_id))?;
    if let Some(parent) = &header.parent_process {
        field(out, "parent_process", &hex(parent))?;
        if header.parent_fork != 0 {
            field(out, "parent_fork", &header.parent_fork.to_string())?;
        }
    }
    field(out, "pid", &format!("{} (parent {})", header.pid, header.ppid))?;
    for (key, value) in header_texts(header) {
        if let Some(value) = value {
            field(out, key, &value)?;
        }
    }
    field(out, "command_line", &arguments(header.command_line).join(" "))?;
    field(out, "task_method", header.task_method.name())?;
    field(out, "start_real_ns", &header.start_real_ns.to_string())?;
    for line in String::from_utf8_lossy(header.settings).lines() {
        field(out, "setting", line)?;
    }
    let inactive: Vec<_> = segment.directory().filter(|entry| !entry.active).collect();
    if !inactive.is_empty() {
        let names: Vec<_> =
            inactive.iter().map(|entry| String::from_utf8_lossy(entry.name)).collect();
        field(out, "not counted", &names.join(" "))?;
    }
    let mut groups = segment.groups();
    for group in groups.by_ref() {
        let since = group.stamp.mono_ns as i128 - i128::from(header.start_mono_ns);
        let mut line = format!(
            "  {:>14} {:>8} {:>6}  {:<13}",
            format!("{:+.6}", since as f64 / 1e9),
            group.tid,
            group.seq,
            group.event.kind().name()
        );
        for (key, value) in details(&group.event) {
            let _ = write!(line, " {key}={}", text_of(&value));
        }
        let flags = flag_names(group.flags);
        if !flags.is_empty() {
            let _ = write!(line, " [{}]", flags.join(" "));
        }
        writeln!(out, "{}", printable(line.trim_end()))?;
        if let Some(values) = &group.values {
            print_values(out, values, chosen)?;
        }
    }
    let left_out = groups.left_out();
    if left_out.total() > 0 {
        writeln!(out, "  left out: {}", describe(&left_out))?;
    }
    Ok(left_out)
}

/// Non-zero counters, a few per line.
fn print_values(out: &mut impl Write, values: &Values, chosen: MetricSet) -> io::Result<()> {
    let mut line = String::new();
    for (index, metric) in METRICS.iter().enumerate() {
        let Some(value) = values.get(index).filter(|&value| value != 0 && chosen.contains(index))
        else {
            continue;
        };
        let item = format!("{}={value}", metric.name);
        if !line.is_empty() && line.len() + item.len() > 64 {
            writeln!(out, "{:17}{line}", "")?;
            line.clear();
        }
        let space = if line.is_empty() { "" } else { " " };
        let _ = write!(line, "{space}{item}");
    }
    if line.is_empty() { Ok(()) } else { writeln!(out, "{:17}{line}", "") }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

fn lossy(text: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(text).into_owned())
}

fn task_details(task: &TaskId<'_>) -> Vec<(&'static str, Value)> {
    let number = |value: i64| if value < 0 { Value::Null } else { json!(value) };
    vec![
        ("stage", number(task.stage.into())),
        ("stage_attempt", number(task.stage_attempt.into())),
        ("index", number(task.index.into())),
        ("attempt", number(task.attempt.into())),
        ("task_id", number(task.task_id)),
        ("method", json!(task.method.name())),
        ("application_id", json!(known(task.application_id))),
        ("executor_id", json!(known(task.executor_id))),
    ]
}

/// What the event says, besides its kind and counters.
fn details(event: &Event<'_>) -> Vec<(&'static str, Value)> {
    match event {
        Event::ThreadStart { name } => vec![("name", lossy(name))],
        Event::ThreadEnd | Event::Snapshot => Vec::new(),
        Event::TaskStart(task) => task_details(task),
        Event::TaskEnd { task, outcome } => {
            let mut details = task_details(task);
            details.push(("outcome", json!(outcome.name())));
            details
        }
        Event::Notice { code, a, b, text } => vec![
            ("code", notice::name(*code).map_or(json!(code), |name| json!(name))),
            ("a", json!(a)),
            ("b", json!(b)),
            ("text", lossy(text)),
        ],
        Event::Exec { path } => vec![("path", lossy(path))],
        Event::Spawn { pid, fork: 0, path } => vec![("pid", json!(pid)), ("path", lossy(path))],
        Event::Spawn { pid, fork, .. } => vec![("pid", json!(pid)), ("fork", json!(fork))],
        Event::ProcessEnd { reason, status } => {
            vec![("reason", json!(reason.name())), ("status", json!(status))]
        }
        Event::Directory { number, path } => vec![("number", json!(number)), ("path", lossy(path))],
    }
}

fn print_json(
    out: &mut impl Write,
    name: &str,
    segment: &Segment<'_>,
    chosen: MetricSet,
) -> io::Result<LeftOut> {
    let header = segment.header();
    let mut head = Map::new();
    head.insert("segment".into(), json!(header.segment));
    head.insert("process_id".into(), json!(hex(&header.process_id)));
    head.insert("parent_process".into(), json!(header.parent_process.as_ref().map(hex)));
    if header.parent_fork != 0 {
        head.insert("parent_fork".into(), json!(header.parent_fork));
    }
    head.insert("pid".into(), json!(header.pid));
    head.insert("ppid".into(), json!(header.ppid));
    head.extend(header_texts(header).into_iter().map(|(key, value)| (key.into(), json!(value))));
    head.insert("command_line".into(), json!(arguments(header.command_line)));
    head.insert("task_method".into(), json!(header.task_method.name()));
    head.insert("start_mono_ns".into(), json!(header.start_mono_ns));
    head.insert("start_real_ns".into(), json!(header.start_real_ns));
    head.insert("start_ticks".into(), json!(header.start_ticks));
    head.insert("settings".into(), lossy(header.settings));
    let metrics: Vec<_> = segment
        .directory()
        .map(|entry| {
            json!({
                "name": String::from_utf8_lossy(entry.name),
                "unit": entry.unit.map(|unit| unit.name()),
                "active": entry.active,
            })
        })
        .collect();
    write!(out, "{{\"file\":{},\"header\":{},", json!(name), Value::Object(head))?;
    write!(out, "\"metrics\":{},\"groups\":[", Value::Array(metrics))?;
    let mut groups = segment.groups();
    let mut separator = "";
    for group in groups.by_ref() {
        write!(out, "{separator}\n{}", group_json(&group, chosen))?;
        separator = ",";
    }
    let left_out = groups.left_out();
    let reasons = json!({
        "total": left_out.total(),
        "damaged": left_out.damaged,
        "empty": left_out.empty,
        "incomplete": left_out.incomplete,
        "unknown": left_out.unknown,
        "torn_tail": left_out.torn_tail,
    });
    writeln!(out, "],\"left_out_bytes\":{reasons}}}")?;
    Ok(left_out)
}

fn group_json(group: &Group<'_>, chosen: MetricSet) -> Value {
    let mut object = Map::new();
    object.insert("offset".into(), json!(group.offset));
    object.insert("seq".into(), json!(group.seq));
    object.insert("tid".into(), json!(group.tid));
    object.insert("kind".into(), json!(group.event.kind().name()));
    object.insert("flags".into(), json!(flag_names(group.flags)));
    object.insert("mono_ns".into(), json!(group.stamp.mono_ns));
    let real = (group.stamp.real_ns != 0).then_some(group.stamp.real_ns);
    object.insert("real_ns".into(), json!(real));
    object.extend(details(&group.event).into_iter().map(|(key, value)| (key.into(), value)));
    if let Some(values) = &group.values {
        let named = METRICS.iter().enumerate().filter(|(index, _)| chosen.contains(*index));
        let values: Map<_, _> =
            named.map(|(index, m)| (m.name.to_owned(), json!(values.get(index)))).collect();
        object.insert("values".into(), Value::Object(values));
    }
    Value::Object(object)
}
