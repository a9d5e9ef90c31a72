//! `analyzer ingest`: record files and event logs into a store.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use records::{Event, LeftOut, Segment};

use crate::dump::{describe, printable};
use crate::eventlog::{self, ReadError, Source};
use crate::exit::{Exit, Failure};
use crate::record_files::{self, RecordFile, hex, known};
use crate::store::{self, Added, Address, Store, StoreError, Table};
use crate::terminal::{ERROR, WARNING};

/// Load record files and Spark event logs into a store
///
/// Record files and event logs may come together or apart, from any machine, in any order, and again:
/// what the store knows already has no effect, and what has grown since is taken up. The store is a
/// folder of Parquet tables or a MySQL or MariaDB database.
///
/// Event logs: plain or zstd files, folders eventlog_v2_*, folders of logs, or - for standard input.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Record files, or folders that hold them at any depth
    #[arg(value_name = "PATH", required_unless_present = "event_log")]
    paths: Vec<PathBuf>,

    /// The store: a folder, made if it does not exist, or a database, mysql://USER@HOST[:PORT]/DATABASE
    /// (made by `analyzer schema init`)
    #[arg(
        long,
        visible_alias = "mysql",
        value_name = "DIR|URL",
        default_value = store::DEFAULT
    )]
    store: Address,

    /// An event log of Spark (repeatable); - is standard input
    #[arg(long, value_name = "PATH|-")]
    event_log: Vec<PathBuf>,

    /// The cluster that the event logs come from, as the conf file names it; needed only if two clusters
    /// have given the same application id
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// No progress bar and no summary; warnings and errors only
    #[arg(long, short)]
    quiet: bool,
}

/// What was done so far.
struct Ingest<'a> {
    args: &'a Args,
    store: Box<dyn Store>,
    bar: ProgressBar,
    new_segments: u64,
    known_segments: u64,
    new_logs: u64,
    known_logs: u64,
    left_out_files: u64,
    is_partial: bool,
    /// Processes of the record files.
    processes: BTreeSet<String>,
    /// Application ids that record files name.
    recorded: BTreeSet<String>,
    /// Application ids of event logs, and whether the user named the log itself.
    logged: Vec<(String, bool)>,
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be written, or not one input was usable.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut complaints = Vec::new();
    let mut files = Vec::new();
    for path in &args.paths {
        match record_files::find(std::slice::from_ref(path)) {
            Ok(found) if found.is_empty() => {
                complaints
                    .push(format!("{}: no record file (.sar) in this folder", path.display()));
            }
            Ok(found) => files.extend(found),
            Err(message) => complaints.push(message),
        }
    }
    files.sort();
    files.dedup();
    let mut logs: Vec<Source> = Vec::new();
    for path in &args.event_log {
        match eventlog::find(path) {
            Ok(found) => logs.extend(found),
            Err(message) => complaints.push(message),
        }
    }
    if files.is_empty() && logs.is_empty() {
        return Err(Failure::new(Exit::BadInput, complaints.join("\n")));
    }
    let store = store::create(&args.store)?;
    let mut ingest = Ingest {
        bar: progress_bar(&args, &files, &logs),
        args: &args,
        store,
        new_segments: 0,
        known_segments: 0,
        new_logs: 0,
        known_logs: 0,
        left_out_files: 0,
        is_partial: false,
        processes: BTreeSet::new(),
        recorded: BTreeSet::new(),
        logged: Vec::new(),
    };
    for complaint in complaints {
        ingest.leave_out(&complaint);
    }
    ingest.take_records(&files)?;
    ingest.take_logs(&logs)?;
    ingest.bar.set_style(style("{spinner} tables {pos}/{len}"));
    ingest.bar.set_length(ingest.store.stale()? as u64);
    ingest.bar.set_position(0);
    ingest.store.update(&|| ingest.bar.inc(1))?;
    ingest.bar.finish_and_clear();
    ingest.check_applications()?;
    ingest.summarise();
    let used = ingest.new_segments + ingest.known_segments + ingest.new_logs + ingest.known_logs;
    Ok(match (used, ingest.left_out_files, ingest.is_partial) {
        (0, _, _) => Exit::BadInput,
        (_, 0, false) => Exit::Success,
        _ => Exit::Partial,
    }
    .into())
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants below; a wrong one only costs the bar's looks.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn progress_bar(args: &Args, files: &[PathBuf], logs: &[Source]) -> ProgressBar {
    if args.quiet {
        return ProgressBar::hidden();
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let bytes =
        files.iter().map(size).sum::<u64>() + logs.iter().filter_map(Source::bytes).sum::<u64>();
    // indicatif draws on standard error, and only if that is a terminal.
    ProgressBar::new(bytes)
        .with_style(style("{spinner} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"))
}

impl Ingest<'_> {
    fn leave_out(&mut self, message: &str) {
        self.left_out_files += 1;
        self.bar.suspend(|| anstream::eprintln!("{ERROR}error:{ERROR:#} {message}"));
    }

    fn warn(&mut self, message: &str) {
        self.is_partial = true;
        self.bar.suspend(|| anstream::eprintln!("{WARNING}warning:{WARNING:#} {message}"));
    }

    fn take_records(&mut self, files: &[PathBuf]) -> Result<(), Failure> {
        for path in files {
            let file = match RecordFile::load(path) {
                Ok(file) => file,
                Err(message) => {
                    self.leave_out(&message);
                    continue;
                }
            };
            self.bar.inc(file.bytes.len() as u64);
            let segment = match file.segment() {
                Ok(segment) => segment,
                Err(message) => {
                    self.leave_out(&message);
                    continue;
                }
            };
            let left_out = self.note_identities(&segment);
            // Slots that a killed writer had reserved and not written are no loss of what it wrote.
            if left_out.total() > left_out.empty {
                let reasons = describe(&left_out);
                self.warn(&format!("{}: left out {reasons}", path.display()));
            }
            match self.store.add_segment(&file.bytes, &segment)? {
                Added::New => self.new_segments += 1,
                Added::Known => self.known_segments += 1,
            }
        }
        Ok(())
    }

    fn note_identities(&mut self, segment: &Segment<'_>) -> LeftOut {
        self.processes.insert(hex(&segment.header().process_id));
        self.recorded.extend(known(segment.header().application_id));
        let mut groups = segment.groups();
        for group in groups.by_ref() {
            if let Event::TaskStart(task) | Event::TaskEnd { task, .. } = group.event {
                self.recorded.extend(known(task.application_id));
            }
        }
        groups.left_out()
    }

    fn take_logs(&mut self, logs: &[Source]) -> Result<(), Failure> {
        for source in logs {
            let log = match eventlog::read(source, &|bytes| self.bar.inc(bytes)) {
                Ok(log) => log,
                // A folder of logs may hold anything else.
                Err(ReadError::NoLog(message)) if !source.is_named => {
                    self.bar.suspend(|| anstream::eprintln!("note: {message}; passed over"));
                    continue;
                }
                Err(error) => {
                    self.leave_out(error.message());
                    continue;
                }
            };
            let name = source.name.display();
            if log.bad_lines > 0 {
                self.warn(&format!("{name}: {} lines are no events; left out", log.bad_lines));
            }
            if log.is_cut {
                // So it is with every application that is still running: nothing is lost.
                self.bar.suspend(|| {
                    anstream::eprintln!("note: {name}: the end is cut; read up to there");
                });
            }
            let mut is_new = false;
            for application in log.applications {
                let id = application.id.clone().unwrap_or_default();
                self.logged.push((id, source.is_named));
                let cluster = self.args.cluster.as_deref();
                let added = self.store.add_application(application, cluster)?;
                is_new |= added == Added::New;
            }
            if is_new {
                self.new_logs += 1;
            } else {
                self.known_logs += 1;
            }
        }
        Ok(())
    }

    /// Warns if event logs and record files of one call do not belong together.
    fn check_applications(&mut self) -> Result<(), Failure> {
        if self.recorded.is_empty() || self.logged.is_empty() {
            return Ok(());
        }
        let stored = self.stored_applications()?;
        let is_recorded = |id: &String| self.recorded.contains(id) || stored.contains(id);
        let matches = self.logged.iter().any(|(id, _)| is_recorded(id));
        let strangers: BTreeSet<_> = self
            .logged
            .iter()
            .filter(|(id, is_named)| !is_recorded(id) && (*is_named || !matches))
            .map(|(id, _)| id.clone())
            .collect();
        if strangers.is_empty() {
            return Ok(());
        }
        let list = |ids: &BTreeSet<String>| {
            let mut shown: Vec<_> = ids.iter().take(5).map(|id| printable(id)).collect();
            if ids.len() > 5 {
                shown.push(format!("and {} more", ids.len() - 5));
            }
            shown.join(", ")
        };
        let message = format!(
            "the event log is of application {}, the record files are of {}; both are in the store, \
             but nothing joins them",
            list(&strangers),
            list(&self.recorded)
        );
        self.warn(&message);
        Ok(())
    }

    /// The application ids of all processes in the store.
    fn stored_applications(&self) -> Result<BTreeSet<String>, Failure> {
        let read = || -> Result<BTreeSet<String>, StoreError> {
            let Some(frame) = self.store.frame(Table::Processes, Some(&["application_id"]))? else {
                return Ok(BTreeSet::new());
            };
            let ids = frame.column("application_id")?.str()?;
            Ok(ids.iter().flatten().map(str::to_owned).collect())
        };
        Ok(read()?)
    }

    fn summarise(&self) {
        if self.args.quiet {
            return;
        }
        let count = |number: u64, one: &str, many: &str| {
            format!("{number} {}", if number == 1 { one } else { many })
        };
        let mut parts = Vec::new();
        let segments = self.new_segments + self.known_segments;
        if segments > 0 {
            parts.push(format!(
                "{} of {} ({} new or grown)",
                count(segments, "record file", "record files"),
                count(self.processes.len() as u64, "process", "processes"),
                self.new_segments
            ));
        }
        let logs = self.new_logs + self.known_logs;
        if logs > 0 {
            let logs = count(logs, "event log", "event logs");
            parts.push(format!("{logs} ({} new or grown)", self.new_logs));
        }
        if self.left_out_files > 0 {
            parts.push(format!("{} left out", count(self.left_out_files, "input", "inputs")));
        }
        println!("{}: {}", self.args.store, parts.join(", "));
    }
}
