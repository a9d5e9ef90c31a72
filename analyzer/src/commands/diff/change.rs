//! What is compared of two sides, and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::figure::Figure;
use crate::report::rows::{Row, Said};

/// A stage or process, or what is outside tasks, or all, as it is found again in other runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matched {
    /// Where the stage stands among all, its name, and how many that nothing tells apart stand there.
    Stage(usize, String, usize),
    /// A traced process: its name, and which of those with this name it is.
    Process(String, i64),
    Outside,
    All,
}

/// What the runs of a side say of one stage.
#[derive(Clone, Debug, Default)]
pub struct OfSide {
    /// Stage ids in the runs.
    pub stages: BTreeSet<i64>,
    pub rows: Vec<Row>,
}

/// The runs of a side.
pub struct Runs {
    /// Application ids.
    pub ids: Vec<String>,
    /// Stages in the order of the first run that has them.
    pub order: Vec<Matched>,
    pub rows: BTreeMap<Matched, OfSide>,
}

/// A figure's values on one side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    pub least: u64,
    pub median: u64,
    pub most: u64,
    pub runs: usize,
}

/// From so many runs on either side ranges that do not overlap are enough. Of 100 figures with normally distributed
/// noise that did not change, 3 are then beyond it by chance with four runs a side and 1 with five; of two or three
/// runs it would be 33 and 10, and are 9 and 1 as these have to lie further apart than the wider of them is wide.
pub const ENOUGH_RUNS: usize = 4;

/// What can be said of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sides' ranges are clearly apart.
    Beyond,
    /// They are not.
    Within,
    /// A side has one run alone.
    NoTelling,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Beyond => "beyond noise",
            Verdict::Within => "within noise",
            Verdict::NoTelling => "?",
        }
    }
}

/// One line of the comparison.
pub struct Change {
    pub matched: Matched,
    pub figure: Figure,
    pub a: Option<Values>,
    pub b: Option<Values>,
}

impl Values {
    /// The values of the runs, nearest-rank median; `None` unless all are exactly known.
    pub fn of(side: Option<&OfSide>, figure: Figure) -> Option<Values> {
        let value = |row: &Row| match row.said(figure) {
            Said::Exactly(value) => Some(value),
            Said::AtLeast(_) | Said::Unknown => None,
        };
        let mut values: Vec<_> = side?.rows.iter().map(value).collect::<Option<_>>()?;
        values.sort_unstable();
        let median = *values.get((values.len().max(1) - 1) / 2)?;
        Some(Values { least: *values.first()?, median, most: *values.last()?, runs: values.len() })
    }
}

impl Change {
    /// How much it rose, in percent.
    pub fn percent(&self) -> Option<f64> {
        let (a, b) = (self.a?.median as f64, self.b?.median as f64);
        if a == b { Some(0.0) } else { (a > 0.0).then(|| (b - a) / a * 100.0) }
    }

    pub fn verdict(&self) -> Option<Verdict> {
        let (a, b) = (self.a?, self.b?);
        let apart = b.least.checked_sub(a.most).or(a.least.checked_sub(b.most)).unwrap_or(0);
        let wanted = match a.runs.min(b.runs) {
            ENOUGH_RUNS.. => 0,
            _ => (a.most - a.least).max(b.most - b.least),
        };
        Some(if a.runs < 2 || b.runs < 2 {
            Verdict::NoTelling
        } else if apart > wanted {
            Verdict::Beyond
        } else {
            Verdict::Within
        })
    }

    /// Whether a person wants to see it.
    pub fn is_notable(&self, threshold: f64) -> bool {
        match (self.a, self.b) {
            (None, None) => false,
            (Some(a), Some(b)) => {
                let is_changed = a.median != b.median
                    && self.percent().is_none_or(|percent| percent.abs() >= threshold);
                is_changed && self.verdict() != Some(Verdict::Within)
            }
            _ => true,
        }
    }
}

/// Adds what is not there yet, outside and all staying last.
pub fn add_in_order(order: &mut Vec<Matched>, more: Vec<Matched>) {
    for one in more {
        if !order.contains(&one) {
            order.push(one);
        }
    }
    order.sort_by_key(|one| match one {
        Matched::Stage(..) | Matched::Process(..) => 0,
        Matched::Outside => 1,
        Matched::All => 2,
    });
}
