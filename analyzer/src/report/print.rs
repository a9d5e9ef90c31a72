//! Printing a report as table or JSON.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::console::terminal::{HEADING, utc};
use crate::report::figure::{Block, Figure, MILLION, Scale};
use crate::report::gather::Answer;
use crate::report::key::{Dimension, Key, Name, Part, Span};
use crate::report::rows::{Completeness, Row, Said};
use crate::report::stage_names::StageName;
use crate::text::shown::printable;

/// A table's lines are at most this wide, unless the keys alone need more.
pub const WIDTH: usize = 80;
/// A key is cut to this many characters in a table.
const KEY_WIDTH: usize = 26;
/// A directory to these.
const DIRECTORY_WIDTH: usize = 40;

/// The version of the JSON document; it rises when a key changes its meaning or goes.
const JSON_VERSION: u32 = 1;

type KeyedRows<'a> = Vec<(&'a Key, &'a Row)>;

/// What is printed.
pub struct Report<'a> {
    /// The answer.
    pub answer: &'a Answer,
    /// Dimensions of the rows.
    pub by: &'a [Dimension],
    /// Whether a table's lines may be as wide as its columns want.
    pub is_wide: bool,
}

/// A dimension's value as text; none if it is unknown.
pub(super) fn shown_text(key: &Key, dimension: Dimension) -> Option<String> {
    match dimension {
        Dimension::Process => key.process.clone(),
        Dimension::Time => key.time.map(span_text),
        _ => own_text(key, dimension),
    }
}

fn own_text(key: &Key, dimension: Dimension) -> Option<String> {
    match dimension {
        Dimension::App => key.application.as_ref().map(|name| name.0.clone()),
        Dimension::Node => key.node.as_ref().map(|name| name.0.clone()),
        Dimension::Executor => key.executor.as_ref().map(|name| name.0.clone()),
        Dimension::Process => key.process.as_ref().map(|id| id[..8.min(id.len())].to_owned()),
        Dimension::Thread => key.thread.as_ref().map(|thread| match &thread.name {
            Some(name) => format!("{} {name}", thread.tid),
            None => thread.tid.to_string(),
        }),
        Dimension::Directory => key.directory.clone(),
        Dimension::Stage if key.part == Part::Outside => Some("outside".into()),
        Dimension::Stage => key.stage.map(|stage| stage_label(stage.0, stage.1)),
        _ if dimension.is_of_tasks() && key.part == Part::Outside => Some(String::new()),
        Dimension::Time => None,
        Dimension::Query => key.query.map(|query| query.to_string()),
        Dimension::Job => key.job.map(|job| job.to_string()),
        Dimension::Task => key.task.map(|task| task.to_string()),
    }
}

/// A dimension's value as text for a table.
pub(super) fn shown(key: &Key, dimension: Dimension) -> String {
    if let (Dimension::Time, Some(span)) = (dimension, key.time) {
        return span_text(span);
    }
    let name = own_text(key, dimension);
    let name = printable(&name.unwrap_or_else(|| "-".into()));
    let width = if dimension == Dimension::Directory { DIRECTORY_WIDTH } else { KEY_WIDTH };
    if name.chars().count() <= width {
        return name;
    }
    // Ids and paths differ at their ends.
    let skip = name.chars().count() - width + 1;
    format!("~{}", name.chars().skip(skip).collect::<String>())
}

/// When a bucket begins, and how long several are together.
pub fn span_text(span: Span) -> String {
    let begin = utc(span.from_ms);
    match span.until_ms - span.from_ms {
        _ if span.is_bucket => begin,
        ms if ms % 1000 == 0 => format!("{begin} +{}s", ms / 1000),
        ms => format!("{begin} +{ms}ms"),
    }
}

/// `3`, or `3.1` for its second attempt.
pub fn stage_text(stage: i64, attempt: Option<i64>) -> String {
    match attempt {
        None | Some(0) => stage.to_string(),
        Some(attempt) => format!("{stage}.{attempt}"),
    }
}

/// The same for a row: of an unknown attempt there is another row than of the first one.
pub fn stage_label(stage: i64, attempt: Option<i64>) -> String {
    match attempt {
        None => format!("{stage}.?"),
        _ => stage_text(stage, attempt),
    }
}

/// Three or four significant digits with a unit's prefix.
pub fn human(value: u64, scale: Scale) -> String {
    let scaled = |value: f64, units: &[&str]| {
        let mut value = value;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < units.len() {
            value /= 1000.0;
            unit += 1;
        }
        let decimals = if unit == 0 || value >= 99.95 {
            0
        } else if value >= 9.995 {
            1
        } else {
            2
        };
        format!("{value:.decimals$}{}", units[unit])
    };
    let value_f = value as f64;
    match scale {
        Scale::Count if value < 10_000 => value.to_string(),
        Scale::Count => scaled(value_f, &["", "k", "M", "G", "T", "P", "E"]),
        Scale::Bytes => scaled(value_f, &["B", "kB", "MB", "GB", "TB", "PB", "EB"]),
        Scale::Nanoseconds => scaled(value_f, &["ns", "us", "ms", "s", "ks", "Ms"]),
        Scale::Milliseconds => scaled(value_f, &["ms", "s", "ks", "Ms"]),
        Scale::Moment => utc(i64::try_from(value).unwrap_or(i64::MAX)),
        Scale::Millionths => {
            let value = value_f / MILLION as f64;
            match value {
                0.0 => "0".into(),
                _ if value < 0.01 => format!("{value:.1e}"),
                _ if value < 999.5 => {
                    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
                    format!("{value:.decimals$}")
                }
                _ => scaled(value, &["", "k", "M", "G", "T", "P", "E"]),
            }
        }
    }
}

/// A figure of a row as text for a table.
pub fn cell(row: &Row, figure: Figure) -> String {
    match row.said(figure) {
        Said::Exactly(value) => human(value, figure.scale()),
        Said::AtLeast(value) => format!("{}+", human(value, figure.scale())),
        Said::Unknown => "-".into(),
    }
}

impl Report<'_> {
    /// Prints a table for people, a section per application if rows are of single ones.
    pub fn table(&self, out: &mut impl Write, blocks: &[Block]) -> io::Result<()> {
        let has_sections = self.by.contains(&Dimension::App) && self.by.len() > 1;
        let mut sections: Vec<(Option<&Name>, KeyedRows<'_>)> = Vec::new();
        for (key, row) in self.answer.rows.iter() {
            let application = key.application.as_ref().filter(|_| has_sections);
            match sections.last_mut() {
                Some((last, rows)) if *last == application => rows.push((key, row)),
                _ => sections.push((application, vec![(key, row)])),
            }
        }
        for (application, rows) in &sections {
            if has_sections {
                let id = application.map_or("unknown", |name| &name.0);
                let name = self.answer.application_names.get(id);
                let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
                let title = printable(&format!("Application {id}{name}"));
                writeln!(out, "{HEADING}{title}{HEADING:#}\n")?;
            }
            self.section(out, blocks, rows, has_sections)?;
        }
        for line in self.answer.notes.lines() {
            wrapped(out, "note: ", &printable(&line))?;
        }
        // A total may be a lower bound where no row is one: of some the figure is not known at all.
        let totals = sections.iter().map(|(_, rows)| {
            let mut total = Row::default();
            rows.iter().for_each(|(_, row)| total.join(row));
            total
        });
        let totals: Vec<_> = totals.collect();
        let figures = || blocks.iter().flat_map(|block| &block.columns).map(|(figure, _)| *figure);
        let shown = || self.answer.rows.iter().map(|(_, row)| row).chain(&totals);
        let has_bounds =
            shown().any(|row| figures().any(|one| matches!(row.said(one), Said::AtLeast(_))));
        let has_unknown = shown().any(|row| figures().any(|one| row.said(one) == Said::Unknown));
        if let Some(line) = self.answer.written.line() {
            wrapped(out, "", &line)?;
        }
        let mut times = self.answer.rows.iter().filter_map(|(key, _)| key.time);
        if times.any(|span| !span.is_bucket) {
            let text = "measured over so long from then on, and not divided among the buckets of that time \
                (finer with ingest --snapshots, see report --help)";
            wrapped(out, "+20s after a time: ", text)?;
        }
        let bounds = has_bounds.then_some("+ = at least: a part is unknown.");
        let unknown = has_unknown.then_some("- = unknown.");
        if has_bounds || has_unknown {
            let legend: Vec<_> = bounds.into_iter().chain(unknown).collect();
            writeln!(out, "{}", legend.join("  "))?;
        }
        Ok(())
    }

    /// The rows of one application, or all rows.
    fn section(
        &self,
        out: &mut impl Write,
        blocks: &[Block],
        rows: &KeyedRows<'_>,
        is_of_application: bool,
    ) -> io::Result<()> {
        let dimensions: Vec<_> = self
            .by
            .iter()
            .copied()
            .filter(|dimension| !is_of_application || *dimension != Dimension::App)
            .collect();
        let has_stage = dimensions.contains(&Dimension::Stage);
        let has_part = !has_stage && !dimensions.contains(&Dimension::Directory);
        let mut heads: Vec<_> = dimensions.iter().map(|one| one.name().to_owned()).collect();
        if has_part {
            heads.push("part".into());
        }
        let keys = rows.iter().map(|(key, _)| {
            let mut cells: Vec<_> = dimensions.iter().map(|one| shown(key, *one)).collect();
            if has_part {
                cells.push(key.part.name().into());
            }
            cells
        });
        let mut lines: Vec<Line> = keys
            .zip(rows)
            .map(|(key, (of, row))| Line { key, part: Some(of.part), row: (*row).clone() })
            .collect();
        let mut total = Row::default();
        rows.iter().for_each(|(_, row)| total.join(row));
        let mut key = vec!["total".to_owned()];
        key.resize(heads.len(), String::new());
        lines.push(Line { key, part: None, row: total });
        for block in blocks {
            // What says the same in all rows needs no column, unless the user chose the columns.
            let is_everywhere = |figure: Figure, what: Said| {
                figure != Figure::Tasks && rows.iter().all(|(_, row)| row.said(figure) == what)
            };
            let (mut unknown, mut zero, mut columns) = (Vec::new(), Vec::new(), Vec::new());
            for column in &block.columns {
                if is_everywhere(column.0, Said::Unknown) {
                    unknown.push(column.0.name());
                } else if Self::is_nowhere_but_zero(rows, column.0) && block.is_default {
                    zero.push(column.0.name());
                } else {
                    columns.push(column);
                }
            }
            writeln!(out, "{HEADING}{}{HEADING:#}", block.title)?;
            if columns.iter().any(|(figure, _)| *figure != Figure::Tasks) || !block.is_default {
                let is_shown =
                    |line: &&Line| !(block.is_of_tasks && line.part == Some(Part::Outside));
                let lines: Vec<_> = lines.iter().filter(is_shown).collect();
                let width = if self.is_wide { usize::MAX } else { WIDTH };
                print_block(out, &heads, &lines, &columns, width)?;
            }
            if !unknown.is_empty() {
                let why = if block.is_of_tasks { "  unknown: " } else { "  not counted: " };
                wrapped(out, why, &unknown.join(", "))?;
            }
            if !zero.is_empty() {
                wrapped(out, "  0 in every row: ", &zero.join(", "))?;
            }
            writeln!(out)?;
        }
        if has_stage { self.stage_names(out, rows) } else { Ok(()) }
    }

    /// Whether the rows that know the figure all know it to be 0. Spark's figures are of tasks alone, so
    /// the rows of the rest need not know them.
    fn is_nowhere_but_zero(rows: &KeyedRows<'_>, figure: Figure) -> bool {
        rows.iter().all(|(key, row)| match row.said(figure) {
            Said::Exactly(0) => true,
            Said::Unknown => key.part == Part::Outside && !figure.is_of_processes(),
            _ => false,
        })
    }

    fn stage_names(&self, out: &mut impl Write, rows: &[(&Key, &Row)]) -> io::Result<()> {
        let mut named = Vec::new();
        for (key, _) in rows {
            let (Some(application), Some((stage, attempt))) = (&key.application, key.stage) else {
                continue;
            };
            let id = (application.0.clone(), stage, attempt.unwrap_or(0));
            if let Some(name) = self.answer.stage_names.get(&id) {
                named.push((stage, attempt, name));
            }
        }
        named.sort_by_key(|(stage, attempt, _)| (*stage, *attempt));
        named.dedup_by_key(|(stage, attempt, _)| (*stage, *attempt));
        for (stage, attempt, name) in &named {
            let name = printable(&name.full());
            wrapped(out, &format!("stage {}: ", stage_text(*stage, *attempt)), &name)?;
        }
        if named.is_empty() { Ok(()) } else { writeln!(out) }
    }

    /// Prints JSON: rows with every figure by name, null where unknown.
    /// The spreads and stragglers of stages stand among them if there are any.
    pub fn json(
        &self,
        out: &mut impl Write,
        figures: &[Figure],
        spreads: Option<(Vec<Value>, Vec<Value>)>,
        findings: Option<&[(String, super::findings::Finding)]>,
    ) -> io::Result<()> {
        let figures_of = |object: &mut Map<String, Value>, row: &Row, figures: &[Figure]| {
            let mut bounds = Vec::new();
            for figure in figures {
                let said = row.said(*figure);
                if matches!(said, Said::AtLeast(_)) {
                    bounds.push(figure.name());
                }
                let value = said.value().map(|value| figure.json(value));
                object.insert(figure.name(), json!(value));
            }
            object.insert("at_least".into(), json!(bounds));
        };
        let completeness_of = |row: &Row, is_wanted: &dyn Fn(Completeness) -> bool| {
            let of = figures.iter().map(|figure| (figure.name(), row.completeness(*figure)));
            let wanted = of.filter(|(_, known)| is_wanted(*known));
            let parts = wanted.map(|(name, of)| (name, json!([of.exact, of.at_least, of.unknown])));
            Value::Object(parts.collect())
        };
        let by: Vec<_> = self.by.iter().map(|one| one.name()).collect();
        writeln!(out, "{{\"schema_version\":{JSON_VERSION},\"by\":{},\"rows\":[", json!(by))?;
        let mut separator = "";
        for (key, row) in self.answer.rows.iter() {
            let mut object = Map::new();
            for (name, value) in self.keys(key) {
                object.insert(name.into(), value);
            }
            figures_of(&mut object, row, figures);
            let partly = completeness_of(row, &Completeness::is_partial);
            object.insert("completeness".into(), partly);
            writeln!(out, "{separator}{}", Value::Object(object))?;
            separator = ",";
        }
        let mut total = Map::new();
        let sum = self.answer.rows.total();
        figures_of(&mut total, &sum, figures);
        let completeness = completeness_of(&sum, &|_| true);
        let mut processes = Map::new();
        let ours: Vec<_> =
            figures.iter().copied().filter(|figure| figure.is_of_processes()).collect();
        figures_of(&mut processes, &self.answer.process_totals, &ours);
        let is_shown = |id: &str| {
            let mut keys = self.answer.rows.iter().map(|(key, _)| key.application.as_ref());
            keys.any(|application| application.is_none_or(|name| name.0 == id))
        };
        let known = &self.answer.jobs;
        let stages: Vec<_> = known
            .parents
            .iter()
            .filter(|((application, ..), _)| is_shown(application))
            .map(|(key, parents)| {
                let (application, stage, attempt) = key;
                let log = self.answer.logs.stages.get(key);
                json!({
                    "application_id": application,
                    "stage": stage,
                    "stage_attempt": attempt,
                    "name": self.answer.stage_names.get(key).map(StageName::full),
                    "job": known.of(application, (*stage, Some(*attempt))),
                    "parents": parents,
                    "submitted_ms": log.and_then(|log| log.submitted_ms),
                    "completed_ms": log.and_then(|log| log.completed_ms),
                    "failure": log.and_then(|log| log.failure.as_ref()),
                })
            })
            .collect();
        let jobs: Vec<_> = known
            .all
            .iter()
            .filter(|one| is_shown(&one.application))
            .map(|one| {
                let log = self.answer.logs.jobs.get(&(one.application.clone(), one.job));
                json!({
                    "application_id": one.application,
                    "job": one.job,
                    "query": one.query,
                    "stages": one.stages,
                    "description": log.and_then(|log| log.description.as_ref()),
                    "submitted_ms": log.and_then(|log| log.submitted_ms),
                    "completed_ms": log.and_then(|log| log.completed_ms),
                    "result": log.and_then(|log| log.result.as_ref()),
                    "failure": log.and_then(|log| log.failure.as_ref()),
                })
            })
            .collect();
        let executors: Vec<_> = self
            .answer
            .logs
            .executors
            .iter()
            .filter(|((application, _), _)| is_shown(application))
            .map(|((application, id), one)| {
                json!({
                    "application_id": application,
                    "executor_id": id,
                    "host": one.host,
                    "cores": one.cores,
                    "added_ms": one.added_ms,
                    "removed_ms": one.removed_ms,
                    "reason": one.reason,
                })
            })
            .collect();
        // Null where nobody looked for any.
        let findings = findings.map(|all| {
            let one = |(application, finding): &(String, super::findings::Finding)| {
                let mut value = finding.json();
                value["application_id"] = json!(application);
                value
            };
            all.iter().map(one).collect::<Vec<_>>()
        });
        let spreads = spreads.map_or_else(String::new, |(spreads, stragglers)| {
            format!("\n\"spreads\":{},\n\"stragglers\":{},", json!(spreads), json!(stragglers))
        });
        writeln!(
            out,
            "],{spreads}\"findings\":{},\n\"total\":{},\n\"completeness\":{},\n\"process_totals\":{},\n\"overhead\":{},\n\"stages\":{},\n\"jobs\":{},\n\"executors\":{},\n\"notes\":{}}}",
            json!(findings),
            Value::Object(total),
            completeness,
            Value::Object(processes),
            json!({
                "record_files": self.answer.written.files,
                "record_bytes": self.answer.written.bytes,
                "cpu_ns": null,
            }),
            Value::Array(stages),
            Value::Array(jobs),
            Value::Array(executors),
            json!(self.answer.notes.lines())
        )
    }

    /// The key's fields for JSON and CSV.
    pub(super) fn keys(&self, key: &Key) -> Vec<(&'static str, Value)> {
        let mut fields = Vec::new();
        for dimension in self.by {
            match dimension {
                Dimension::App => {
                    let id = key.application.as_ref().map(|one| &one.0);
                    fields.push(("application_id", json!(id)));
                    let name = id.and_then(|id| self.answer.application_names.get(id));
                    fields.push(("application_name", json!(name)));
                }
                Dimension::Node => {
                    fields.push(("node", json!(key.node.as_ref().map(|one| &one.0))))
                }
                Dimension::Executor => {
                    fields.push(("executor_id", json!(key.executor.as_ref().map(|one| &one.0))));
                }
                Dimension::Process => fields.push(("process_id", json!(key.process))),
                Dimension::Thread => {
                    let thread = key.thread.as_ref();
                    fields.push(("tid", json!(thread.map(|thread| thread.tid))));
                    let name = thread.and_then(|thread| thread.name.as_ref());
                    fields.push(("thread_name", json!(name)));
                }
                Dimension::Directory => fields.push(("directory", json!(key.directory))),
                Dimension::Time => {
                    fields.push(("time_ms", json!(key.time.map(|span| span.from_ms))));
                    fields.push(("until_ms", json!(key.time.map(|span| span.until_ms))));
                }
                Dimension::Query => fields.push(("query", json!(key.query))),
                Dimension::Job => fields.push(("job", json!(key.job))),
                Dimension::Stage => {
                    fields.push(("stage", json!(key.stage.map(|stage| stage.0))));
                    fields.push(("stage_attempt", json!(key.stage.and_then(|stage| stage.1))));
                    let id = key.application.as_ref().map(|name| name.0.clone()).zip(key.stage);
                    let name = id.and_then(|(id, (stage, attempt))| {
                        self.answer.stage_names.get(&(id, stage, attempt.unwrap_or(0)))
                    });
                    fields.push(("stage_name", json!(name.map(StageName::full))));
                }
                Dimension::Task => fields.push(("task_id", json!(key.task))),
            }
        }
        fields.push(("part", json!(key.part.name())));
        fields
    }
}

/// A line of a table.
struct Line {
    key: Vec<String>,
    /// `None` for the total.
    part: Option<Part>,
    row: Row,
}

/// Prints one block, in as many tables as its columns need.
fn print_block(
    out: &mut impl Write,
    heads: &[String],
    lines: &[&Line],
    columns: &[&(Figure, String)],
    line_width: usize,
) -> io::Result<()> {
    let widest = |cells: &mut dyn Iterator<Item = &String>| {
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let key_widths: Vec<usize> = (0..heads.len())
        .map(|at| widest(&mut lines.iter().map(|line| &line.key[at]).chain([&heads[at]])))
        .collect();
    let key_width: usize = key_widths.iter().map(|width| width + 2).sum();
    let mut rest = columns;
    loop {
        let mut taken: Vec<(Vec<String>, usize)> = Vec::new();
        let mut width = key_width;
        for (figure, head) in rest {
            let mut cells = vec![head.clone()];
            cells.extend(lines.iter().map(|line| cell(&line.row, *figure)));
            let own = widest(&mut cells.iter());
            if width + own + 1 > line_width && !taken.is_empty() {
                break;
            }
            width += own + 1;
            taken.push((cells, own));
        }
        rest = &rest[taken.len()..];
        let keys = std::iter::once(heads).chain(lines.iter().map(|line| &line.key[..]));
        for (at, key) in keys.enumerate() {
            let mut text = String::new();
            for (cell, width) in key.iter().zip(&key_widths) {
                text.push_str(&format!("{cell:<width$}  "));
            }
            for (cells, width) in &taken {
                text.push_str(&format!(" {:>width$}", cells[at]));
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
    }
}

/// Prints text in lines of at most [`WIDTH`] characters, the later ones indented.
pub fn wrapped(out: &mut impl Write, prefix: &str, text: &str) -> io::Result<()> {
    wrapped_to(out, prefix, text, WIDTH)
}

/// Prints text in lines of at most so many characters, the later ones indented.
pub fn wrapped_to(out: &mut impl Write, prefix: &str, text: &str, width: usize) -> io::Result<()> {
    let mut line = prefix.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            writeln!(out, "{line}")?;
            line = " ".repeat(6);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let cases = [
            (0, Scale::Count, "0"),
            (9_999, Scale::Count, "9999"),
            (10_000, Scale::Count, "10.0k"),
            (999_499, Scale::Count, "999k"),
            (999_500, Scale::Count, "1.00M"),
            (u64::MAX, Scale::Count, "18.4E"),
            (999, Scale::Bytes, "999B"),
            (1_234, Scale::Bytes, "1.23kB"),
            (12_345_678, Scale::Bytes, "12.3MB"),
            (1_500_000_000, Scale::Nanoseconds, "1.50s"),
            (99_960, Scale::Milliseconds, "100s"),
        ];
        for (value, scale, expected) in cases {
            assert_eq!(human(value, scale), expected);
        }
    }

    #[test]
    fn long_text_is_wrapped() {
        let mut out = Vec::new();
        wrapped(&mut out, "note: ", &"word ".repeat(40)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.len() <= WIDTH));
    }
}
