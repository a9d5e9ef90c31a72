//! Printing how figures are spread over tasks.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::gather::Answer;
use super::print::{human, stage_text, wrapped};
use super::spread::{Measure, POINTS, of_stages};
use crate::dump::printable;
use crate::terminal::HEADING;

/// So many stragglers of a stage are named in a table.
const STRAGGLERS_SHOWN: usize = 5;

/// The spreads of a measure in all stages as JSON; `number` writes a value.
pub fn json(answer: &Answer, measure: Measure, number: fn(u64) -> Value) -> Vec<Value> {
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
    Ok(())
}
