//! Printing a comparison.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::commands::diff::change::{Change, Matched, Runs, Values, Verdict};
use crate::console::terminal::HEADING;
use crate::report::figure::Figure;
use crate::report::markdown::markdown_cell;
use crate::report::words::{human, wrapped};
use crate::text::shown::printable;

/// What a stage is called: its ids on both sides and its name.
fn label(matched: &Matched, sides: [&Runs; 2]) -> String {
    let ids = |side: &Runs| {
        let stages = side.rows.get(matched).map(|of_side| &of_side.stages);
        let ids: Vec<_> = stages.into_iter().flatten().map(i64::to_string).collect();
        if ids.is_empty() { "-".to_owned() } else { ids.join("/") }
    };
    match matched {
        Matched::All => "all".into(),
        Matched::Outside => "outside tasks".into(),
        Matched::Process(name, 1) => printable(&format!("process {name}")),
        Matched::Process(name, ordinal) => printable(&format!("process {name} ({ordinal})")),
        Matched::Stage(_, name, alike) => {
            let (a, b) = (ids(sides[0]), ids(sides[1]));
            let ids = if a == b { a } else { format!("{a} -> {b}") };
            let (stages, together) = match alike {
                0 | 1 => ("stage", ""),
                _ => ("stages", "alike, compared together: "),
            };
            printable(&format!("{stages} {ids} {together}{name}")).trim_end().to_owned()
        }
    }
}

/// Value with the range of the runs, if they differ.
fn cell(values: Option<Values>, figure: Figure) -> String {
    let Some(values) = values else { return "-".into() };
    let text = human(values.median, figure.scale());
    match values.least == values.most {
        true => text,
        false => {
            let half = (values.most - values.least) as f64 / 2.0;
            format!("{text} ±{:.1}%", half / (values.median as f64).max(1.0) * 100.0)
        }
    }
}

/// A change in percent, if there is such a number.
pub fn percent_cell(change: &Change) -> String {
    match (change.percent(), change.a.zip(change.b)) {
        (Some(percent), _) => format!("{percent:+.1}%"),
        (None, Some(_)) => "from 0".into(),
        (None, None) => "-".into(),
    }
}

fn verdict_cell(change: &Change) -> &'static str {
    change.verdict().map_or("-", Verdict::name)
}

fn side_line(name: &str, runs: &Runs) -> String {
    let ids: Vec<_> = runs.ids.iter().map(|id| printable(id)).collect();
    format!("{name}: {}", ids.join(", "))
}

/// Prints what is notable.
///
/// # Errors
/// When the output cannot be written.
pub fn table(
    out: &mut impl Write,
    sides: [&Runs; 2],
    changes: &[Change],
    threshold: f64,
) -> io::Result<()> {
    writeln!(out, "{}\n{}\n", side_line("A", sides[0]), side_line("B", sides[1]))?;
    let notable: Vec<_> = changes.iter().filter(|change| change.is_notable(threshold)).collect();
    let mut last = None;
    for change in &notable {
        if last != Some(&change.matched) {
            let label = label(&change.matched, sides);
            let label: String = label.chars().take(80).collect();
            let blank = if last.is_some() { "\n" } else { "" };
            writeln!(out, "{blank}{HEADING}{label}{HEADING:#}")?;
            last = Some(&change.matched);
        }
        writeln!(
            out,
            "  {:<22} {:>16} {:>16} {:>9}  {}",
            change.figure.name(),
            cell(change.a, change.figure),
            cell(change.b, change.figure),
            percent_cell(change),
            verdict_cell(change)
        )?;
    }
    let rest = changes.len() - notable.len();
    let blank = if notable.is_empty() { "" } else { "\n" };
    writeln!(
        out,
        "{blank}{rest} of {} figures are unchanged, changed by less than {threshold} %, within noise or unknown",
        changes.len()
    )?;
    if notable.iter().any(|change| change.verdict() == Some(Verdict::NoTelling)) {
        let text = "a side has one run alone. Counts are exact, executions vary: a JVM compiles by time, and three runs of one \
            short job differed by 10 %. Several runs of each side say what is noise.";
        wrapped(out, "? = ", text)?;
    }
    Ok(())
}

/// Prints what is notable as a Markdown table.
///
/// # Errors
/// When the output cannot be written.
pub fn markdown(
    out: &mut impl Write,
    sides: [&Runs; 2],
    changes: &[Change],
    threshold: f64,
) -> io::Result<()> {
    writeln!(
        out,
        "{}; {}\n",
        markdown_cell(&side_line("A", sides[0])),
        markdown_cell(&side_line("B", sides[1]))
    )?;
    writeln!(out, "| stage | figure | A | B | change | |\n|---|---|---:|---:|---:|---|")?;
    for change in changes.iter().filter(|change| change.is_notable(threshold)) {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            markdown_cell(&label(&change.matched, sides)),
            markdown_cell(&change.figure.name()),
            cell(change.a, change.figure),
            cell(change.b, change.figure),
            percent_cell(change),
            verdict_cell(change)
        )?;
    }
    Ok(())
}

/// Prints every figure.
///
/// # Errors
/// When the output cannot be written.
pub fn json(out: &mut impl Write, sides: [&Runs; 2], changes: &[Change]) -> io::Result<()> {
    let side = |values: Option<Values>, figure: Figure| -> Value {
        values.map_or(Value::Null, |values| {
            json!({
                "median": figure.json(values.median),
                "min": figure.json(values.least),
                "max": figure.json(values.most),
                "runs": values.runs,
            })
        })
    };
    let ids = |matched: &Matched, runs: &Runs| {
        runs.rows.get(matched).map(|of_side| of_side.stages.iter().copied().collect::<Vec<_>>())
    };
    writeln!(out, "{{\"a\":{},\"b\":{},\"changes\":[", json!(sides[0].ids), json!(sides[1].ids))?;
    for (at, change) in changes.iter().enumerate() {
        let (part, name) = match &change.matched {
            Matched::All => ("all", None),
            Matched::Outside => ("outside tasks", None),
            Matched::Process(name, _) => ("process", Some(name)),
            Matched::Stage(_, name, _) => ("stage", Some(name).filter(|name| !name.is_empty())),
        };
        let alike = match &change.matched {
            Matched::Stage(.., alike) => Some(alike),
            _ => None,
        };
        let line = json!({
            "part": part,
            "name": name,
            "alike": alike,
            "stages_a": ids(&change.matched, sides[0]),
            "stages_b": ids(&change.matched, sides[1]),
            "figure": change.figure.name(),
            "a": side(change.a, change.figure),
            "b": side(change.b, change.figure),
            "percent": change.percent(),
            "verdict": change.verdict().map(Verdict::name),
        });
        let end = if at + 1 < changes.len() { "," } else { "" };
        writeln!(out, "{line}{end}")?;
    }
    writeln!(out, "]}}")
}
