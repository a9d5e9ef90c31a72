//! The result of a trace as JSON.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::{Serialize, Serializer};

use crate::commands::trace::child::How;
use crate::commands::trace::outcome::{Outcome, Tally, ThreadTally};
use crate::model::counts::Counts;
use records::METRICS;

/// Writes one JSON object and a line end.
///
/// Counts are integers, `null` for what was not counted. `complete` is true only if nothing was
/// released, lost or out of reach; `gaps` says what was.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let (code, signal) = match outcome.ended.how {
        How::Exited(code) => (Some(code), None),
        How::Killed(signal) => (None, Some(signal)),
    };
    let command: Vec<_> = outcome.command.iter().map(|word| word.to_string_lossy()).collect();
    let document = Document {
        command,
        exit: ExitObject { code, signal },
        wall_seconds: outcome.ended.wall.as_secs_f64(),
        user_seconds: outcome.ended.user.as_secs_f64(),
        system_seconds: outcome.ended.system.as_secs_f64(),
        starts_at: outcome.starts_at.as_deref(),
        complete: outcome.is_complete(),
        gaps: &outcome.gaps,
        notices: &outcome.notices,
        totals: ByName(&outcome.totals),
        processes: outcome.processes.iter().map(ProcessObject::from).collect(),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    out.write_all(text.as_bytes())
}

#[derive(Serialize)]
struct Document<'a> {
    command: Vec<Cow<'a, str>>,
    exit: ExitObject,
    wall_seconds: f64,
    user_seconds: f64,
    system_seconds: f64,
    starts_at: Option<&'a str>,
    complete: bool,
    gaps: &'a [String],
    notices: &'a [String],
    totals: ByName<'a>,
    processes: Vec<ProcessObject<'a>>,
}

#[derive(Serialize)]
struct ExitObject {
    code: Option<u8>,
    signal: Option<i32>,
}

#[derive(Serialize)]
struct ProcessObject<'a> {
    pid: u32,
    comm: &'a str,
    command_line: &'a str,
    followed: Followed<'a>,
    totals: ByName<'a>,
    threads: Vec<ThreadObject<'a>>,
}

#[derive(Serialize)]
struct ThreadObject<'a> {
    tid: u32,
    name: &'a str,
    followed: Followed<'a>,
    totals: ByName<'a>,
}

impl<'a> From<&'a Tally> for ProcessObject<'a> {
    fn from(tally: &'a Tally) -> Self {
        ProcessObject {
            pid: tally.pid,
            comm: &tally.comm,
            command_line: &tally.command_line,
            followed: Followed(tally.unfollowed.as_deref()),
            totals: ByName(&tally.totals),
            threads: tally.threads.iter().map(ThreadObject::from).collect(),
        }
    }
}

impl<'a> From<&'a ThreadTally> for ThreadObject<'a> {
    fn from(tally: &'a ThreadTally) -> Self {
        ThreadObject {
            tid: tally.tid,
            name: &tally.name,
            followed: Followed(tally.unfollowed.as_deref()),
            totals: ByName(&tally.totals),
        }
    }
}

/// Every metric by its public name, in the public order.
struct ByName<'a>(&'a Counts);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let metrics = METRICS.iter().enumerate();
        serializer.collect_map(metrics.map(|(index, metric)| (metric.name, self.0.get(index))))
    }
}

/// True, or the reason why not.
struct Followed<'a>(Option<&'a str>);

impl Serialize for Followed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_bool(true),
            Some(reason) => serializer.serialize_str(reason),
        }
    }
}
