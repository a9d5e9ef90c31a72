//! `analyzer purge`: removes what is old from a store.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::console::exit::{Exit, Failure};
use crate::store::{self, OfStore};
use crate::text::duration;

/// Remove old processes and applications from a store
///
/// A process is as old as its last record, an application as the last event of its log. Their rows and what
/// is kept of their sources go; record files and event logs stay where they are, and would come back if they
/// were ingested again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: OfStore,

    /// The age from which on they go, such as 90d, 12h, 4w
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    older_than: Duration,
}

/// Runs the command.
///
/// # Errors
/// When there is no store, or it cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut store = store::open_for_writing(&args.place.store)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let before = now.saturating_sub(args.older_than).as_nanos();
    let purged = store.purge(i64::try_from(before).unwrap_or(i64::MAX))?;
    let count = |number: u64, one: &str, many: &str| {
        format!("{number} {}", if number == 1 { one } else { many })
    };
    println!(
        "{}: {} and {} removed",
        args.place.store,
        count(purged.processes, "process", "processes"),
        count(purged.applications, "application", "applications")
    );
    Ok(Exit::Success.into())
}
