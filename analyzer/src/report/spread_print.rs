//! Printing how figures are spread over tasks.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::console::terminal::HEADING;
use crate::report::answer::Answer;
use crate::report::figure::Scale;
use crate::report::spread::{Cause, Measure, POINTS, of_stages, stragglers};
use crate::report::words::{human, stage_text, wrapped};
use crate::text::shown::printable;

/// So many stragglers of a stage are named in a table.
const STRAGGLERS_SHOWN: usize = 5;

/// The spreads of a measure in all stages as JSON; `number` writes a value.
pub fn json(answer: &Answer, measure: Measure, number: &dyn Fn(u64) -> Value) -> Vec<Value> {
    let name = measure.name();
    let spreads = of_stages(&answer.rows, &answer.task_times, measure).into_iter();
    let described = spreads.map(|(stage, spread)| {
        let stragglers: Vec<_> =
            spread.stragglers.iter().map(|(task, value)| json!([task, number(*value)])).collect();
        json!({
            "measure": name,
            "application": stage.application.map(|name| &name.0),
            "stage": stage.stage,
            "attempt": stage.attempt,
            "known": spread.known,
            "unknown": spread.unknown,
            "points": spread.points.map(number),
            "skew": spread.skew(),
            "stragglers": stragglers,
        })
    });
    described.collect()
}

/// The stragglers by instructions and by time as JSON; `number` writes a value.
pub fn stragglers_json(answer: &Answer, number: &dyn Fn(u64) -> Value) -> Vec<Value> {
    let all = stragglers(&answer.rows, &answer.task_times).into_iter();
    let described = all.flat_map(|(stage, of_stage)| {
        let one = move |one: super::spread::Straggler| {
            json!({
                "application": stage.application.map(|name| &name.0),
                "stage": stage.stage,
                "attempt": stage.attempt,
                "task": one.task,
                "cause": one.cause.name(),
                "instructions": one.work.map(|work| number(work.0)),
                "median_instructions": one.work.map(|work| number(work.1)),
                "duration_ms": one.time.map(|time| time.0),
                "median_duration_ms": one.time.map(|time| time.1),
            })
        };
        of_stage.into_iter().map(one).collect::<Vec<_>>()
    });
    described.collect()
}

/// The stragglers by instructions and by time, with what sets them apart.
fn straggler_table(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    writeln!(out, "{HEADING}Stragglers: 1.5 times their stage's median and more{HEADING:#}")?;
    let all = stragglers(&answer.rows, &answer.task_times);
    if all.is_empty() {
        return writeln!(out, "  none by instructions, none by time\n");
    }
    writeln!(out, "{:<6} {:>8}  {:<23} {:>19} {:>19}", "stage", "task", "why", "instrs", "time")?;
    let cell = |pair: Option<(u64, u64)>, scale| {
        pair.map_or("-".into(), |(value, median)| {
            format!("{} / {}", human(value, scale), human(median, scale))
        })
    };
    let mut application = None;
    for (stage, of_stage) in &all {
        if application != Some(stage.application) {
            application = Some(stage.application);
            let id = stage.application.map_or("-", |name| name.0.as_str());
            writeln!(out, "{}", printable(id))?;
        }
        for one in of_stage.iter().take(STRAGGLERS_SHOWN) {
            let text = stage_text(stage.stage, stage.attempt);
            let why = one.cause.name();
            let work = cell(one.work, Scale::Count);
            let time = cell(one.time, Scale::Milliseconds);
            writeln!(out, "{text:<6} {:>8}  {why:<23} {work:>19} {time:>19}", one.task)?;
        }
        if of_stage.len() > STRAGGLERS_SHOWN {
            writeln!(out, "{:<6} and {} more", "", of_stage.len() - STRAGGLERS_SHOWN)?;
        }
    }
    let warm_up = all.values().flatten().any(|one| one.cause == Cause::WarmUp);
    writeln!(out, "  value / median of its stage; - = like the others, or unknown")?;
    if warm_up {
        let text = "among the first tasks of its executor, with no more records than others: there classes are loaded and code is \
            interpreted before it is compiled; medians are of the later tasks";
        wrapped(out, "  warm-up of executor: ", text)?;
    }
    writeln!(out)
}

/// A table per measure; measures of which nothing is known are named only.
///
/// # Errors
/// When the output cannot be written.
pub fn table(out: &mut impl Write, answer: &Answer, measures: &[Measure]) -> io::Result<()> {
    for measure in measures {
        let spreads = of_stages(&answer.rows, &answer.task_times, *measure);
        writeln!(out, "{HEADING}Spread over each stage's tasks: {}{HEADING:#}", measure.name())?;
        if spreads.is_empty() {
            writeln!(out, "  not known exactly of any task\n")?;
            continue;
        }
        write!(out, "{:<6} {:>6} {:>7}", "stage", "tasks", "unknown")?;
        POINTS.iter().try_for_each(|point| write!(out, " {point:>7}"))?;
        writeln!(out, " {:>7}", "max/med")?;
        let mut application = None;
        for (stage, spread) in &spreads {
            if application != Some(stage.application) {
                application = Some(stage.application);
                let id = stage.application.map_or("-", |name| name.0.as_str());
                writeln!(out, "{}", printable(id))?;
            }
            let text = stage_text(stage.stage, stage.attempt);
            write!(out, "{text:<6} {:>6} {:>7}", spread.known, spread.unknown)?;
            for point in spread.points {
                write!(out, " {:>7}", human(point, measure.scale()))?;
            }
            let skew = spread.skew().map_or("-".into(), |skew| format!("{skew:.2}"));
            writeln!(out, " {skew:>7}")?;
            if !spread.stragglers.is_empty() {
                let shown = spread.stragglers.iter().take(STRAGGLERS_SHOWN);
                let shown: Vec<_> = shown
                    .map(|(task, value)| format!("{task} ({})", human(*value, measure.scale())))
                    .collect();
                let more = spread.stragglers.len().saturating_sub(STRAGGLERS_SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                wrapped(out, "  stragglers: task ", &format!("{}{more}", shown.join(", ")))?;
            }
        }
        writeln!(out)?;
    }
    straggler_table(out, answer)
}
