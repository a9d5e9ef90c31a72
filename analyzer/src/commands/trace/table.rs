//! The result of a trace as a table, after the manner of `perf stat`.

use std::fmt::Write as _;
use std::io::{self, Write};

use records::MetricSet;
use records::metric::{
    Class, ENGINE_COUNT, EngineMetric, INSTRUCTIONS, METRICS, Op, Quantity, syscall_index,
};

use crate::commands::trace::child::How;
use crate::commands::trace::outcome::{Outcome, Tally, quote};
use crate::console::terminal::{GOOD, HEADING, WARNING, number};
use crate::model::counts::Counts;
use crate::text::shown::printable;

/// Rows of the tables of processes and threads; JSON has all of them.
const MAX_ROWS: usize = 60;

/// Lines of notices, and of reasons why the counts are not complete.
const MAX_REMARKS: usize = 12;

/// Width of the column of totals.
const WIDTH: usize = 20;

/// Writes the table; `chosen` are the metrics that were asked for, all if `None`.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(outcome: &Outcome, chosen: Option<MetricSet>, out: &mut dyn Write) -> io::Result<()> {
    let chosen = chosen.unwrap_or(MetricSet::ALL);
    let command = quote(outcome.command.iter().map(std::ffi::OsString::as_os_str));
    let from = match &outcome.starts_at {
        Some(from) if !from.is_empty() => format!(", from the {} on", printable(from)),
        _ => String::new(),
    };
    writeln!(out, "\n {HEADING}Counts of {}{from}:{HEADING:#}\n", printable(&command))?;
    write_engine(&outcome.totals, chosen, out)?;
    write_system_calls(&outcome.totals, chosen, out)?;
    write_processes(outcome, chosen, out)?;
    write_threads(outcome, chosen, out)?;
    write_times(outcome, out)?;
    write_completeness(outcome, out)
}

fn write_engine(totals: &Counts, chosen: MetricSet, out: &mut dyn Write) -> io::Result<()> {
    let instructions = totals.get(INSTRUCTIONS);
    for each in EngineMetric::ALL {
        let (index, metric) = (each as usize, &METRICS[each as usize]);
        if !chosen.contains(index) {
            continue;
        }
        let value = totals.get(index);
        let mut line = format!("{:>WIDTH$}  {:<22}", number(value), metric.name);
        if index != INSTRUCTIONS
            && let (Some(value), Some(all @ 1..)) = (value, instructions)
        {
            let per = value as f64 / all as f64;
            let _ = match each.telling().per_instructions {
                1 => write!(line, "# {per:9.3} per instruction"),
                many => {
                    let many = u64::from(many);
                    let per = per * many as f64;
                    write!(line, "# {per:9.3} per {} instructions", number(Some(many)))
                }
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// One line per class and kind of call that occurred; a class that was not counted says so.
fn write_system_calls(totals: &Counts, chosen: MetricSet, out: &mut dyn Write) -> io::Result<()> {
    let wanted = |class: &Class| !MetricSet::class(*class).intersection(chosen).is_empty();
    let classes: Vec<_> = Class::ALL.into_iter().filter(wanted).collect();
    if classes.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n {HEADING}{:<19}{:>14}{:>20}{:>10}{:>14}{HEADING:#}",
        "system calls", "calls", "bytes", "errors", "seconds"
    )?;
    for class in classes {
        if MetricSet::class(class).intersection(totals.known()).is_empty() {
            writeln!(out, " {:<19}{:>14}", class.name(), "-")?;
            continue;
        }
        let mut has_calls = false;
        for op in Op::ALL {
            let value = |quantity| {
                let index = syscall_index(class, op, quantity)?;
                totals.get(index)
            };
            let calls = value(Quantity::Calls);
            if calls == Some(0) {
                continue;
            }
            has_calls = true;
            let bytes =
                if op.moves_bytes() { number(value(Quantity::Bytes)) } else { String::new() };
            let seconds = value(Quantity::Nanoseconds)
                .map_or_else(|| "-".to_owned(), |ns| format!("{:.6}", ns as f64 / 1e9));
            writeln!(
                out,
                " {:<19}{:>14}{bytes:>20}{:>10}{seconds:>14}",
                format!("{} {}", class.name(), op.name()),
                number(calls),
                number(value(Quantity::Errors)),
            )?;
        }
        if !has_calls {
            writeln!(out, " {:<19}{:>14}", class.name(), "0")?;
        }
    }
    Ok(())
}

/// The columns of the tables of processes and threads.
struct Columns {
    engine: Vec<usize>,
    calls: Option<Vec<usize>>,
}

impl Columns {
    fn new(chosen: MetricSet) -> Columns {
        let is_engine_column = |index: &usize| METRICS[*index].unit == records::metric::Unit::Count;
        let engine = (0..ENGINE_COUNT).filter(is_engine_column).filter(|i| chosen.contains(*i));
        let calls = METRICS.iter().enumerate().filter(|(index, metric)| {
            chosen.contains(*index) && matches!(metric.syscall(), Some((_, _, Quantity::Calls)))
        });
        let calls: Vec<_> = calls.map(|(index, _)| index).collect();
        Columns { engine: engine.collect(), calls: (!calls.is_empty()).then_some(calls) }
    }

    fn head(&self) -> String {
        let mut head = String::new();
        for index in &self.engine {
            let _ = write!(head, "{:>15}", METRICS[*index].name);
        }
        if self.calls.is_some() {
            let _ = write!(head, "{:>14}", "system calls");
        }
        head
    }

    fn row(&self, counts: &Counts) -> String {
        let mut row = String::new();
        for index in &self.engine {
            let _ = write!(row, "{:>15}", number(counts.get(*index)));
        }
        if let Some(calls) = &self.calls {
            let _ = write!(row, "{:>14}", number(counts.sum(calls.iter().copied())));
        }
        row
    }
}

fn write_processes(outcome: &Outcome, chosen: MetricSet, out: &mut dyn Write) -> io::Result<()> {
    if outcome.processes.len() < 2 {
        return Ok(());
    }
    let columns = Columns::new(chosen);
    writeln!(
        out,
        "\n {HEADING}{:>8} {:<16}{}  command{HEADING:#}",
        "process",
        "name",
        columns.head()
    )?;
    for tally in outcome.processes.iter().take(MAX_ROWS) {
        let command: String = printable(&tally.command_line).chars().take(40).collect();
        let (name, row) = (printable(&tally.comm), columns.row(&tally.totals));
        writeln!(out, " {:>8} {name:<16}{row}  {command}", tally.pid)?;
    }
    write_rest(outcome.processes.len(), out)
}

fn write_threads(outcome: &Outcome, chosen: MetricSet, out: &mut dyn Write) -> io::Result<()> {
    let threaded: Vec<&Tally> =
        outcome.processes.iter().filter(|tally| tally.threads.len() > 1).collect();
    if threaded.is_empty() {
        return Ok(());
    }
    let columns = Columns::new(chosen);
    writeln!(
        out,
        "\n {HEADING}{:>8} {:>8} {:<16}{}{HEADING:#}",
        "process",
        "thread",
        "name",
        columns.head()
    )?;
    let threads = || threaded.iter().flat_map(|tally| tally.threads.iter().map(|t| (tally.pid, t)));
    for (pid, thread) in threads().take(MAX_ROWS) {
        let (name, row) = (printable(&thread.name), columns.row(&thread.totals));
        writeln!(out, " {pid:>8} {:>8} {name:<16}{row}", thread.tid)?;
    }
    write_rest(threads().count(), out)
}

fn write_rest(rows: usize, out: &mut dyn Write) -> io::Result<()> {
    match rows.saturating_sub(MAX_ROWS) {
        0 => Ok(()),
        rest => writeln!(out, " {rest:>8} more: see --json"),
    }
}

fn write_times(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let ended = &outcome.ended;
    writeln!(out)?;
    for (time, name) in [
        (ended.wall, "seconds elapsed"),
        (ended.user, "seconds user"),
        (ended.system, "seconds sys"),
    ] {
        writeln!(out, "{:>WIDTH$.6}  {name}", time.as_secs_f64())?;
    }
    match ended.how {
        How::Exited(0) => {}
        How::Exited(code) => writeln!(out, "{code:>WIDTH$}  exit code")?,
        How::Killed(signal) => writeln!(out, "{signal:>WIDTH$}  killed by this signal")?,
    }
    Ok(())
}

fn write_completeness(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    for line in outcome.notices.iter().take(MAX_REMARKS) {
        writeln!(out, " note: {}", printable(line))?;
    }
    if outcome.is_complete() {
        return writeln!(
            out,
            " {GOOD}complete{GOOD:#}: nothing was released, lost or out of reach\n"
        );
    }
    writeln!(out, " {WARNING}incomplete{WARNING:#}:")?;
    for line in outcome.gaps.iter().take(MAX_REMARKS) {
        writeln!(out, "   {}", printable(line))?;
    }
    match outcome.gaps.len().saturating_sub(MAX_REMARKS) {
        0 => {}
        rest => writeln!(out, "   and {rest} more: see --json")?,
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use records::Flags;

    use super::*;
    use crate::commands::trace::child::Ended;
    use crate::commands::trace::left_behind::Remains;
    use crate::commands::trace::processes::Process;
    use crate::commands::tracer::Tracer;

    fn shown(processes: Vec<Process>, chosen: Option<MetricSet>) -> String {
        let ended = Ended {
            pid: 100,
            how: How::Exited(3),
            wall: Duration::from_micros(1_234_567),
            user: Duration::from_millis(900),
            system: Duration::from_millis(20),
        };
        let command = ["prog".into(), "-x".into()];
        let remains = Remains { processes, ..Remains::default() };
        let outcome = Outcome::new(&command, Tracer::Engine, ended, remains, None);
        let mut out = Vec::new();
        write(&outcome, chosen, &mut out).expect("memory");
        anstream::adapter::strip_bytes(&out).into_vec().try_into().expect("UTF-8")
    }

    /// What a program with a thread and a child executed; sockets and other descriptors not counted.
    fn example() -> Vec<Process> {
        let values = |times: u64| {
            let mut values = vec![(0, 1_234_567 * times), (1, 400_000 * times), (5, 12 * times)];
            for class in [Class::File, Class::Pipe] {
                let all = class.first()..class.first() + records::metric::PER_CLASS;
                values.extend(all.map(|index| (index, 0)));
            }
            let read = |quantity| syscall_index(Class::File, Op::Read, quantity).expect("exists");
            values.push((read(Quantity::Calls), 7 * times));
            values.push((read(Quantity::Bytes), 8192 * times));
            values.push((read(Quantity::Nanoseconds), 1500 * times));
            Counts::of(&values)
        };
        vec![
            Process::whole(100, "prog", values(3)).with_thread(
                102,
                "worker",
                values(1),
                Flags::FOLLOWED,
            ),
            Process::whole(101, "child", values(1)),
        ]
    }

    #[test]
    fn processes_and_threads() {
        insta::assert_snapshot!(shown(example(), None));
    }

    #[test]
    fn only_what_was_asked_for() {
        let chosen = MetricSet::class(Class::Socket).with(0);
        insta::assert_snapshot!(shown(example(), Some(chosen)));
    }
}
