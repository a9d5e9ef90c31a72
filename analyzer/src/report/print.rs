//! Printing a report as table or JSON.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::console::terminal::HEADING;
use crate::report::answer::Answer;
use crate::report::figure::{Block, Figure};
use crate::report::findings::rules::Finding;
use crate::report::key::{Dimension, Key, Name, Part};
use crate::report::rows::{Completeness, Row, Said};
use crate::report::stage_names::StageName;
use crate::report::words::{WIDTH, cell, shown, stage_text, wrapped};
use crate::text::shown::printable;

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
        findings: Option<&[(String, Finding)]>,
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
            let one = |(application, finding): &(String, Finding)| {
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
