//! Results of `trace --json` as runs.

use std::collections::BTreeMap;
use std::path::Path;

use elf::regular_file;
use records::METRICS;
use serde::Deserialize;
use serde_json::Value;

use crate::commands::diff::change::{Matched, Runs, add_in_order};
use crate::console::exit::{Exit, Failure};
use crate::report::rows::{Counted, Row};

/// What `trace --json` writes, as far as it is compared.
#[derive(Deserialize)]
struct Document {
    complete: bool,
    totals: Totals,
    processes: Vec<Process>,
}

type Totals = BTreeMap<String, Option<u64>>;

#[derive(Deserialize)]
struct Process {
    comm: String,
    /// True, or the reason why not.
    followed: Value,
    totals: Totals,
    threads: Vec<Thread>,
}

#[derive(Deserialize)]
struct Thread {
    followed: Value,
}

impl Process {
    fn is_whole(&self) -> bool {
        self.followed == true && self.threads.iter().all(|thread| thread.followed == true)
    }
}

/// Bytes of a trace's result: a million processes do not need more.
const MAX_BYTES: u64 = 1 << 30;

/// Whether a side is of such files: each of these names, separated by commas, is one of a file.
pub fn are_files(names: &str) -> bool {
    names.split(',').all(|name| Path::new(name).is_file())
}

/// Reads the runs of a side.
///
/// # Errors
/// When one of the files cannot be read or holds something else.
pub fn read(names: &str) -> Result<Runs, Failure> {
    let mut runs = Runs { ids: Vec::new(), order: Vec::new(), rows: BTreeMap::new() };
    for name in names.split(',') {
        let failed = |why: String| Failure::new(Exit::BadInput, format!("{name}: {why}"));
        let bytes = regular_file::read(Path::new(name), MAX_BYTES)
            .map_err(|error| failed(error.to_string()))?;
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| {
            failed(format!(
                "no result of `analyzer trace --json` ({error}), and a store is a folder"
            ))
        })?;
        add(&mut runs, name, &document);
    }
    Ok(runs)
}

fn add(runs: &mut Runs, name: &str, document: &Document) {
    // If no process says what is missing, it may be missing in each.
    let is_told = document.complete || document.processes.iter().any(|one| !one.is_whole());
    let mut order = Vec::new();
    let mut ordinals: BTreeMap<&str, i64> = BTreeMap::new();
    for process in &document.processes {
        let ordinal = ordinals.entry(&process.comm).or_default();
        *ordinal += 1;
        let matched = Matched::Process(process.comm.clone(), *ordinal);
        let row = row(&process.totals, process.is_whole() && is_told);
        runs.rows.entry(matched.clone()).or_default().rows.push(row);
        order.push(matched);
    }
    let all = row(&document.totals, document.complete);
    runs.rows.entry(Matched::All).or_default().rows.push(all);
    order.push(Matched::All);
    add_in_order(&mut runs.order, order);
    runs.ids.push(name.to_owned());
}

/// Counters as a row; unknown unless they are of all that ran, as lower bounds cannot be compared.
fn row(totals: &Totals, is_whole: bool) -> Row {
    let value = |at: usize| totals.get(METRICS[at].name).copied().flatten().filter(|_| is_whole);
    let values = std::array::from_fn(value);
    let mut row = Row::default();
    row.add_counted(&Counted { values, is_partial: false, is_exact: is_whole });
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::Figure;
    use crate::report::rows::Said;

    fn document(complete: bool, followed: &str) -> Document {
        let text = format!(
            r#"{{"command":["x"],"complete":{complete},"totals":{{"instructions":7}},"processes":[
            {{"comm":"x","followed":{followed},"totals":{{"instructions":7,"barriers":null}},"threads":[]}},
            {{"comm":"x","followed":true,"totals":{{"instructions":0}},"threads":[]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_was_not_followed_is_no_number() {
        let said = |complete, followed| {
            let mut runs = Runs { ids: Vec::new(), order: Vec::new(), rows: BTreeMap::new() };
            add(&mut runs, "a.json", &document(complete, followed));
            assert_eq!(runs.order.len(), 3);
            let figure = Figure::parse("instructions").unwrap();
            let of = |matched| runs.rows[&matched].rows[0].said(figure);
            [Matched::All, Matched::Process("x".into(), 1), Matched::Process("x".into(), 2)].map(of)
        };
        assert_eq!(said(true, "true"), [Said::Exactly(7), Said::Exactly(7), Said::Exactly(0)]);
        let partial = said(false, r#""released""#);
        assert_eq!(partial, [Said::Unknown, Said::Unknown, Said::Exactly(0)]);
        assert_eq!(said(false, "true"), [Said::Unknown; 3], "nobody says whose");
    }
}
