//! `report --plan`: the plans of queries, each operator with the stages that ran it, its rows and its bytes.
//!
//! Rows and bytes are the operators' own metrics, as Spark summed them up over the tasks; the instructions are those of whole stages,
//! which are not divided among operators.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::console::terminal::HEADING;
use crate::input::eventlog::{Metrics, Operator};
use crate::report::answer::Answer;
use crate::report::figure::Scale;
use crate::report::logs::{Query, StageFacts};
use crate::report::stage_names::{is_passing, label};
use crate::report::words::{human, stage_text};
use crate::text::shown::printable;

/// Metrics that say how many bytes an operator made or read, the most telling first.
const BYTES: [&str; 4] =
    ["shuffle bytes written", "written output", "size of files read", "data size"];
/// Metrics that say how many rows.
const ROWS: [&str; 3] = ["number of output rows", "shuffle records written", "records read"];

/// An operator of a plan, as it is shown.
struct Shown<'p> {
    depth: usize,
    operator: &'p Operator,
    stages: Vec<(i64, i64)>,
    rows: Option<u64>,
    bytes: Option<u64>,
}

/// A query with the stages of its jobs.
struct Planned<'a> {
    id: i64,
    query: &'a Query,
    stages: Vec<(&'a (String, i64, i64), &'a StageFacts)>,
}

fn planned<'a>(answer: &'a Answer, application: &str) -> Vec<Planned<'a>> {
    let logs = &answer.logs;
    let own = logs.queries.iter().filter(|((id, _), _)| id == application);
    own.map(|((_, id), query)| {
        let is_of = |(key, _): &(&(String, i64, i64), &StageFacts)| {
            key.0 == application
                && logs.first_job(application, key.1).is_some_and(|(_, job)| job.query == Some(*id))
        };
        Planned { id: *id, query, stages: logs.stages.iter().filter(is_of).collect() }
    })
    .collect()
}

impl Planned<'_> {
    /// The sum of a metric over the stages, and what the driver measured of it.
    fn value(&self, operator: &Operator, names: &[&str]) -> Option<u64> {
        let known = |metrics: &Metrics, name: &str| operator.value(name, metrics);
        names.iter().find_map(|name| {
            let of_stages: Vec<i64> =
                self.stages.iter().filter_map(|(_, stage)| known(&stage.metrics, name)).collect();
            let sum = (!of_stages.is_empty())
                .then(|| of_stages.iter().fold(0_i64, |sum, one| sum.saturating_add(*one)));
            let value = sum.or_else(|| known(&self.query.driver_metrics, name))?;
            u64::try_from(value).ok()
        })
    }

    fn operators(&self) -> Vec<Shown<'_>> {
        let mut shown = Vec::new();
        if let Some(plan) = &self.query.plan {
            self.walk(plan, 0, &mut shown);
        }
        shown
    }

    fn walk<'p>(&'p self, operator: &'p Operator, depth: usize, shown: &mut Vec<Shown<'p>>) {
        let mut below = depth;
        if !is_passing(operator) {
            let ran = self.stages.iter().filter(|(_, stage)| stage.metrics.has_any_of(operator));
            shown.push(Shown {
                depth,
                operator,
                stages: ran.map(|((_, id, attempt), _)| (*id, *attempt)).collect(),
                rows: self.value(operator, &ROWS),
                bytes: self.value(operator, &BYTES),
            });
            below += 1;
        }
        operator.children.iter().for_each(|child| self.walk(child, below, shown));
    }

    fn wall_ms(&self) -> Option<u64> {
        let (end, start) = self.query.ended_ms.zip(self.query.started_ms)?;
        super::rows::between(start, end)
    }

    fn instructions(&self, answer: &Answer) -> Option<u64> {
        use crate::report::figure::Figure;
        let metric = Figure::Metric(records::metric::INSTRUCTIONS);
        let is_own = |key: &super::key::Key| {
            let id = key.application.as_ref().map(|name| &name.0).zip(key.stage);
            id.is_some_and(|(application, (stage, attempt))| {
                self.stages.iter().any(|(one, _)| {
                    one.0 == *application && one.1 == stage && Some(one.2) == attempt
                })
            })
        };
        let own = answer.rows.iter().filter(|(key, _)| is_own(key));
        let known: Vec<u64> = own.filter_map(|(_, row)| row.said(metric).value()).collect();
        (!known.is_empty()).then(|| super::rows::total(known))
    }
}

/// Prints the plans of all queries; the answer's rows must be per application and stage.
///
/// # Errors
/// When the output cannot be written.
pub fn table(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let mut is_nothing = true;
    for application in answer.applications() {
        for query in planned(answer, &application) {
            is_nothing = false;
            let mut title = format!("{application}, query {}", query.id);
            title.extend(query.query.description.as_ref().map(|text| format!(": {text}")));
            writeln!(out, "{HEADING}{}{HEADING:#}", printable(&title))?;
            let mut facts = Vec::new();
            facts.extend(query.wall_ms().map(|ms| human(ms, Scale::Milliseconds)));
            let work = query.instructions(answer);
            facts.extend(work.map(|work| format!("{} instructions", human(work, Scale::Count))));
            facts.extend(query.query.failure.as_ref().map(|why| format!("failed: {why}")));
            if !facts.is_empty() {
                writeln!(out, "  {}", printable(&facts.join(", ")))?;
            }
            let operators = query.operators();
            if operators.is_empty() {
                writeln!(out, "  no plan in the event log\n")?;
                continue;
            }
            writeln!(out, "{:<46} {:>12} {:>9} {:>9}", "operator", "stages", "rows", "bytes")?;
            for one in operators {
                let name = format!("{}{}", " ".repeat(one.depth.min(20)), label(one.operator).text);
                let name: String = printable(&name).chars().take(46).collect();
                let stages: Vec<_> = one
                    .stages
                    .iter()
                    .map(|(id, attempt)| stage_text(*id, Some(*attempt)))
                    .collect();
                let number =
                    |value: Option<u64>, scale| value.map_or("-".into(), |one| human(one, scale));
                writeln!(
                    out,
                    "{name:<46} {:>12} {:>9} {:>9}",
                    if stages.is_empty() { "-".into() } else { stages.join(",") },
                    number(one.rows, Scale::Count),
                    number(one.bytes, Scale::Bytes)
                )?;
            }
            writeln!(out)?;
        }
    }
    if is_nothing {
        return writeln!(out, "no SQL query in the event logs of these applications");
    }
    writeln!(
        out,
        "rows, bytes: the operator's own metrics of Spark's; - unknown. An exchange is of the stages that write and read it."
    )
}

/// The plans for programs.
pub fn json(answer: &Answer) -> Vec<Value> {
    let mut all = Vec::new();
    for application in answer.applications() {
        for query in planned(answer, &application) {
            let operators: Vec<_> = query
                .operators()
                .iter()
                .map(|one| {
                    json!({
                        "depth": one.depth,
                        "node": one.operator.node,
                        "detail": one.operator.detail,
                        "stages": one.stages,
                        "rows": one.rows,
                        "bytes": one.bytes,
                    })
                })
                .collect();
            all.push(json!({
                "application_id": application,
                "query": query.id,
                "description": query.query.description,
                "wall_ms": query.wall_ms(),
                "failure": query.query.failure,
                "instructions": query.instructions(answer),
                "operators": operators,
            }));
        }
    }
    all
}
