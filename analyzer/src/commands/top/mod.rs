//! `analyzer top`: who works now, and how fast: rates per thread and task, from live record files or a store.

mod plain;
mod screen;
mod threads;
mod view;
mod watch_files;
mod watch_store;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::report::figure::Figure;
use crate::store::MayBeOfStore;
use crate::text::duration;

use crate::commands::top::threads::Threads;
use crate::commands::top::view::{Source, View};
use crate::commands::top::watch_files::RecordFiles;
use crate::commands::top::watch_store::StoredThreads;

/// Show who works now: rates per thread and task
///
/// From the record files of this node, as they grow, or from a store that `ingest` fills. On a terminal the
/// screen is renewed until q is pressed; otherwise, or with --once, the state is printed once.
///
/// A rate is the difference between a thread's counters in its last records, of three seconds and more,
/// divided by the time between them. What was not counted is "-"; a thread without new records is quiet.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Record files, or folders that hold them at any depth
    #[arg(value_name = "PATH", default_value = DEFAULT_FOLDER, conflicts_with = "store")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    place: MayBeOfStore,

    /// Print once instead of renewing the screen
    #[arg(long, short = '1')]
    once: bool,

    /// How often to look again
    #[arg(long, value_parser = duration::parse, default_value = "1s", value_name = "TIME")]
    interval: Duration,

    /// The figure whose rate sorts the threads
    #[arg(long, value_parser = Figure::parse, default_value = "instructions", value_name = "FIGURE")]
    sort: Figure,

    /// The figures to show, by the names that `report --format json` has
    #[arg(long, visible_alias = "metrics", value_delimiter = ',', value_parser = Figure::parse, value_name = "LIST")]
    columns: Vec<Figure>,

    /// Also processes and threads that have ended
    #[arg(long)]
    all: bool,

    /// How to print once
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs; implies --once
    Json,
}

/// Where libshim.so writes unless its conf says otherwise; a test holds the two together.
const DEFAULT_FOLDER: &str = "/var/tmp/sparkanalyzer";

/// The figures and heads unless others are chosen.
const FIGURES: [(&str, &str); 6] = [
    ("instructions", "instr/s"),
    ("memory_bytes", "mem/s"),
    ("barriers", "barr/s"),
    ("syscall_calls", "calls/s"),
    ("file_bytes", "file/s"),
    ("socket_bytes", "sock/s"),
];

/// Runs the command.
///
/// # Errors
/// When there is nothing to look at, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut source = match &args.place.store {
        Some(address) => Source::Store(StoredThreads::open(address)?),
        None => Source::Files(RecordFiles::below(&args.paths)),
    };
    let what = match &args.place.store {
        Some(address) => address.to_string(),
        None => {
            args.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        }
    };
    let columns = match args.columns.as_slice() {
        [] => FIGURES
            .iter()
            .filter_map(|(name, head)| Some((Figure::parse(name).ok()?, (*head).to_owned())))
            .collect(),
        chosen => chosen.iter().map(|one| (*one, format!("{}/s", one.name()))).collect(),
    };
    let view = View { columns, sort: args.sort, all: args.all, what };
    let mut threads = Threads::default();
    source.look(&mut threads)?;
    let is_live = !args.once && args.format == Format::Table && io::stdout().is_terminal();
    if is_live {
        screen::run(&mut source, &mut threads, view, args.interval)?;
        return Ok(Exit::Success.into());
    }
    let mut out = match args.format {
        Format::Table => Output::new(None)?,
        Format::Json => Output::data(None)?,
    };
    let printed = match args.format {
        Format::Table => plain::table(&mut out, &threads, &view),
        Format::Json => plain::json(&mut out, &threads, &view),
    };
    out.finish(printed)?;
    Ok(Exit::Success.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_where_the_library_writes() {
        assert_eq!(conf::Settings::default().output_dir, DEFAULT_FOLDER);
    }

    #[test]
    fn the_columns_are_figures() {
        for (name, _) in FIGURES {
            assert!(Figure::parse(name).is_ok(), "{name}");
        }
    }
}
