//! `analyzer ingest`: record files and event logs into a store.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::console::exit::{Exit, Failure};
use crate::console::progress::{self, style};
use crate::console::terminal::{ERROR, WARNING};
use crate::input::eventlog::{self, Limits, Log, PIECE_BYTES, Piece, ReadError, Source};
use crate::input::history_server::{self, Download};
use crate::input::record_files::{self, RecordStream, describe};
use crate::model::snapshot_policy::Snapshots;
use crate::store::{self, Added, OfStore, Runs, StoreError, Table, WritableStore};
use crate::text::duration;
use crate::text::shown::{self, printable};

/// Load record files and Spark event logs into a store
///
/// Record files and event logs may come together or apart, from any machine, in any order, and again:
/// what the store knows already has no effect, and what has grown since is taken up. The store is a
/// folder of Parquet tables or a MySQL or MariaDB database.
///
/// Event logs: files, plain or packed with zstd or gzip, folders eventlog_v2_*, folders of logs, - for standard input, or
/// a history server's.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Record files, or folders that hold them at any depth
    #[arg(value_name = "PATH", required_unless_present = "event_log")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    place: OfStore,

    /// An event log of Spark (repeatable); - is standard input; http(s)://HOST:PORT/APP[/ATTEMPT] is
    /// downloaded from a history server (SSL_CERT_FILE: whose certificates are believed)
    #[arg(long, value_name = "PATH|URL|-")]
    event_log: Vec<PathBuf>,

    /// Go on: take up files that appear and what the others grow by, until a signal ends it
    #[arg(long)]
    follow: bool,

    /// The cluster that the event logs come from, as the conf file names it; needed only if two clusters
    /// have given the same application id
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// Which snapshots to keep besides the starts and ends of tasks and the last word of each thread: all, last
    /// (no more), or one in so much time (10s, 500ms, 1m); `report --by time` cuts tasks at them
    #[arg(long, value_name = "all|last|EVERY", default_value = "last", value_parser = snapshots)]
    snapshots: Snapshots,

    /// An event log with more bytes of lines, unpacked, is refused: some kilobytes may be packed that
    /// unpack to as many gigabytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bytes)]
    max_log_bytes: u64,

    /// An event log with more jobs, stages, tasks, executors, queries and ids in their lists is refused: reports
    /// hold what is known of each task
    #[arg(long, value_name = "N", default_value_t = Limits::default().entries)]
    max_log_entries: u64,
}

impl Args {
    fn limits(&self) -> Limits {
        Limits { bytes: self.max_log_bytes, entries: self.max_log_entries }
    }
}

/// What was done so far.
struct Ingest<'a> {
    args: &'a Args,
    store: Box<dyn WritableStore>,
    bar: ProgressBar,
    new_segments: u64,
    known_segments: u64,
    new_logs: u64,
    known_logs: u64,
    left_out_files: u64,
    is_partial: bool,
    /// While following: what was told.
    told: Option<HashSet<String>>,
    /// Processes of the record files.
    processes: BTreeSet<String>,
    /// Application ids that record files name.
    recorded: BTreeSet<String>,
    /// Application ids of event logs, and whether the user named the log itself.
    logged: Vec<(String, bool)>,
}

/// What the command line names, as it is now.
#[derive(Default)]
struct Inputs {
    files: Vec<PathBuf>,
    logs: Vec<Source>,
    complaints: Vec<String>,
    /// What was passed over in folders of logs.
    notes: Vec<String>,
    /// Logs that were downloaded go with it.
    _downloads: Vec<Download>,
}

impl Inputs {
    fn find(args: &Args) -> Inputs {
        let mut inputs = Inputs::default();
        for path in &args.paths {
            match record_files::find(std::slice::from_ref(path)) {
                Ok(found) => {
                    if found.files.is_empty() {
                        let none =
                            format!("{}: no record file (.sar) in this folder", path.display());
                        inputs.complaints.push(none);
                    }
                    inputs.files.extend(found.files);
                    inputs.complaints.extend(found.left_out);
                }
                Err(message) => inputs.complaints.push(message),
            }
        }
        inputs.files.sort();
        inputs.files.dedup();
        for path in &args.event_log {
            let found = if history_server::is_address(path) {
                history_server::download(path).map(|download| {
                    let sources = download.sources.clone();
                    inputs._downloads.push(download);
                    sources
                })
            } else {
                eventlog::find(path).map(|found| {
                    inputs.notes.extend(found.notes);
                    found.sources
                })
            };
            match found {
                Ok(found) => inputs.logs.extend(found),
                Err(message) => inputs.complaints.push(message),
            }
        }
        inputs
    }

    /// What is wrong with each input, if none is of use.
    fn complaints_if_hopeless(&self) -> Option<Vec<String>> {
        let mut complaints = self.complaints.clone();
        for path in &self.files {
            match RecordStream::open(path) {
                Ok(_) => return None,
                Err(message) => complaints.push(message),
            }
        }
        for source in &self.logs {
            if source.is_standard_input() {
                return None;
            }
            complaints.push(complaint_of(source)?);
        }
        Some(complaints)
    }

    /// Leaves out what has not grown since the last round.
    fn retain_grown(&mut self, sizes: &mut HashMap<PathBuf, u64>) {
        let mut has_grown = |path: &Path, size: u64| sizes.insert(path.into(), size) != Some(size);
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.files.retain(|path| has_grown(path, size(path)));
        self.logs.retain(|log| has_grown(&log.name, log.files.iter().map(size).sum()));
    }
}

/// What is wrong with an event log, if it says nothing of any application.
fn complaint_of(source: &Source) -> Option<String> {
    let mut log = Log::open(source, &|_| {});
    loop {
        match log.next_piece(COMPLAINT_BYTES) {
            Ok(Some(piece)) if piece.is_last || piece.application.id.is_some() => return None,
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error.message().to_owned()),
        }
    }
}

/// So many bytes of lines are looked at at once to see whether something is an event log.
const COMPLAINT_BYTES: usize = 1 << 20;

/// Runs the command.
///
/// # Errors
/// When the store cannot be written, or not one input was usable.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if args.follow {
        return follow(&args);
    }
    let inputs = Inputs::find(&args);
    if inputs.files.is_empty() && inputs.logs.is_empty() {
        return Err(Failure::new(Exit::BadInput, inputs.complaints.join("\n")));
    }
    // Nothing that is no record file and no event log is a reason to make a store.
    if !store::is_there(&args.place.store)?
        && let Some(complaints) = inputs.complaints_if_hopeless()
    {
        return Err(Failure::new(Exit::BadInput, complaints.join("\n")));
    }
    let mut ingest = Ingest::begin(&args, &inputs)?;
    for complaint in &inputs.complaints {
        ingest.leave_out(complaint);
    }
    ingest.pass(&inputs)?;
    ingest.check_applications()?;
    ingest.summarise();
    Ok(match (ingest.used(), ingest.left_out_files, ingest.is_partial) {
        (0, _, _) => Exit::BadInput,
        (_, 0, false) => Exit::Success,
        _ => Exit::Partial,
    }
    .into())
}

/// The shortest and the longest pause between two looks at the inputs.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// A pause is so many times as long as the round before it: following takes a tenth of a processor at most.
const PAUSE_PER_ROUND: u32 = 9;

/// Takes up what is new or has grown, again and again, until a signal ends it; what it took in stands. The
/// store is closed in the pauses, so that others may write to it too.
fn follow(args: &Args) -> Result<ExitCode, Failure> {
    if args.event_log.iter().any(|path| path == Path::new("-")) {
        return Err(Failure::new(Exit::Usage, "standard input cannot be followed (--follow)"));
    }
    let mut sizes = HashMap::new();
    let mut told = HashSet::new();
    loop {
        let began = Instant::now();
        let before = sizes.clone();
        let mut inputs = Inputs::find(args);
        inputs.retain_grown(&mut sizes);
        if !inputs.files.is_empty() || !inputs.logs.is_empty() {
            let round = Ingest::begin(args, &inputs).and_then(|mut ingest| {
                ingest.told = Some(std::mem::take(&mut told));
                let passed = ingest.pass(&inputs);
                told = ingest.told.take().unwrap_or_default();
                passed.map(|()| ingest.summarise())
            });
            match round {
                Ok(()) => {}
                // A server that is restarted and a disk that is full are waited for.
                Err(failure) if matches!(failure.exit, Exit::Environment | Exit::BadOutput) => {
                    sizes = before;
                    if told.insert(failure.message.clone()) {
                        let message = shown::message(&failure.message);
                        anstream::eprintln!("{WARNING}warning:{WARNING:#} {message}");
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        let pause = began.elapsed().saturating_mul(PAUSE_PER_ROUND);
        std::thread::sleep(pause.clamp(*PAUSE.start(), *PAUSE.end()));
    }
}

fn snapshots(text: &str) -> Result<Snapshots, String> {
    match text {
        "all" => Ok(Snapshots::All),
        "last" => Ok(Snapshots::Last),
        _ => match duration::parse(text) {
            Ok(every) => Ok(Snapshots::Every(u64::try_from(every.as_nanos()).unwrap_or(u64::MAX))),
            Err(error) => Err(format!("{error}, or all, or last")),
        },
    }
}

fn progress_bar(files: &[PathBuf], logs: &[Source]) -> ProgressBar {
    if progress::is_quiet() {
        return ProgressBar::hidden();
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let bytes =
        files.iter().map(size).sum::<u64>() + logs.iter().filter_map(Source::bytes).sum::<u64>();
    // indicatif draws on standard error, and only if that is a terminal.
    ProgressBar::new(bytes)
        .with_style(style("{spinner} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"))
}

impl<'a> Ingest<'a> {
    fn begin(args: &'a Args, inputs: &Inputs) -> Result<Ingest<'a>, Failure> {
        let store = store::create(&args.place.store)?;
        Ok(Ingest {
            bar: progress_bar(&inputs.files, &inputs.logs),
            args,
            store,
            new_segments: 0,
            known_segments: 0,
            new_logs: 0,
            known_logs: 0,
            left_out_files: 0,
            is_partial: false,
            told: None,
            processes: BTreeSet::new(),
            recorded: BTreeSet::new(),
            logged: Vec::new(),
        })
    }

    /// Inputs that could be used.
    fn used(&self) -> u64 {
        self.new_segments + self.known_segments + self.new_logs + self.known_logs
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<(), Failure> {
        for note in &inputs.notes {
            if self.is_news(note) {
                let note = shown::message(note);
                self.bar.suspend(|| anstream::eprintln!("note: {note}; passed over"));
            }
        }
        self.take_records(&inputs.files)?;
        self.take_logs(&inputs.logs)?;
        self.bar.finish_and_clear();
        Ok(())
    }

    /// Whether a message is to be told: while following, once.
    fn is_news(&mut self, message: &str) -> bool {
        self.told.as_mut().is_none_or(|told| told.insert(message.to_owned()))
    }

    fn leave_out(&mut self, message: &str) {
        self.left_out_files += 1;
        if !self.is_news(message) {
            return;
        }
        let message = shown::message(message);
        self.bar.suspend(|| anstream::eprintln!("{ERROR}error:{ERROR:#} {message}"));
    }

    fn warn(&mut self, message: &str) {
        self.is_partial = true;
        if !self.is_news(message) {
            return;
        }
        let message = shown::message(message);
        self.bar.suspend(|| anstream::eprintln!("{WARNING}warning:{WARNING:#} {message}"));
    }

    fn take_records(&mut self, files: &[PathBuf]) -> Result<(), Failure> {
        let bar = self.bar.clone();
        let taken = self.store.take_records(files, self.args.snapshots, &|bytes| bar.inc(bytes))?;
        taken.left_out.iter().for_each(|message| self.leave_out(message));
        taken.warnings.iter().for_each(|message| self.warn(message));
        for (path, left_out) in &taken.damaged {
            // The end of a file that is being written may lack the rest of its last group.
            let is_live = self.told.is_some() && left_out.damaged + left_out.unknown == 0;
            if !is_live {
                self.warn(&format!("{}: left out {}", path.display(), describe(left_out)));
            }
        }
        self.new_segments += taken.new_segments;
        self.known_segments += taken.known_segments;
        self.processes.extend(taken.processes);
        self.recorded.extend(taken.applications);
        Ok(())
    }

    fn take_logs(&mut self, logs: &[Source]) -> Result<(), Failure> {
        for source in logs {
            let bar = self.bar.clone();
            let progress = |bytes| bar.inc(bytes);
            let mut log = Log::open(source, &progress).within(self.args.limits());
            match self.take_log(source, &mut log)? {
                Ok(Added::New) => self.new_logs += 1,
                Ok(Added::Known) => self.known_logs += 1,
                // A folder of logs may hold anything else.
                Err(ReadError::NoLog(message)) if !source.is_named => {
                    if self.is_news(&message) {
                        let message = shown::message(&message);
                        self.bar.suspend(|| anstream::eprintln!("note: {message}; passed over"));
                    }
                    continue;
                }
                Err(error) => {
                    self.leave_out(error.message());
                    continue;
                }
            }
            let name = source.name.display().to_string();
            if !source.missing.is_empty() {
                let numbers: Vec<_> = source.missing.iter().map(u64::to_string).collect();
                self.warn(&format!(
                    "{name}: of the rolling files events_<n>_... number {} is missing: what they tell is not known",
                    numbers.join(", ")
                ));
            }
            if log.bad_lines > 0 {
                self.warn(&format!("{name}: {} lines are no events; left out", log.bad_lines));
            }
            if log.is_cut && self.told.is_none() {
                // So it is with every application that is still running: nothing is lost.
                let name = shown::message(&name);
                self.bar.suspend(|| {
                    anstream::eprintln!("note: {name}: the end is cut; read up to there");
                });
            }
        }
        Ok(())
    }

    /// Takes in a log, piece by piece.
    fn take_log(
        &mut self,
        source: &Source,
        log: &mut Log<'_>,
    ) -> Result<Result<Added, ReadError>, Failure> {
        let mut added = Added::Known;
        let mut runs = Runs::new(self.store.scratch());
        loop {
            let Piece { application, is_last } = match log.next_piece(PIECE_BYTES) {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(Ok(added)),
                Err(error) => return Ok(Err(error)),
            };
            if !is_last {
                runs.add(application)?;
                continue;
            }
            let id = application.id.clone().unwrap_or_default();
            self.logged.push((id, source.is_named));
            let cluster = self.args.cluster.as_deref();
            if self.store.add_application(&runs, &application, cluster)? == Added::New {
                added = Added::New;
            }
            runs = Runs::new(self.store.scratch());
        }
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
        if progress::is_quiet() || (self.told.is_some() && self.new_segments + self.new_logs == 0) {
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
        println!("{}: {}", self.args.place.store, parts.join(", "));
    }
}
