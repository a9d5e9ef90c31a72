//! Tables of a store whose rows have counters.

use polars::prelude::{BooleanChunked, Column, DataFrame, PolarsResult};
use records::{METRIC_COUNT, METRICS};

use crate::console::progress::Step;
use crate::model::coverage::{ENGINE_EXACT, ENGINE_PARTIAL};
use crate::report::rows::{Counted, Run};
use crate::store::{Store, StoreError, Table};

/// A table whose rows have counters.
pub struct Rated {
    pub(super) frame: DataFrame,
    metrics: Vec<Column>,
    engine: Column,
}

impl Rated {
    /// Takes the frame of a table with counters.
    ///
    /// # Errors
    /// When it has none.
    pub fn of(frame: DataFrame) -> PolarsResult<Rated> {
        let metrics = METRICS
            .iter()
            .map(|metric| frame.column(metric.name).cloned())
            .collect::<Result<_, _>>()?;
        let engine = frame.column("engine")?.clone();
        Ok(Rated { frame, metrics, engine })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.frame.height()
    }

    /// The sums over some rows; their engine column must be the same.
    pub(super) fn run(&self, from: usize, to: usize) -> PolarsResult<Run> {
        let mut sums = [(0, 0); METRIC_COUNT];
        for ((known, sum), column) in sums.iter_mut().zip(&self.metrics) {
            for array in column.u64()?.downcast_iter() {
                let values = &array.values()[from..to];
                let total = |sum: u64, value: &u64| sum.saturating_add(*value);
                match array.validity().filter(|bits| bits.unset_bits() > 0) {
                    None => {
                        *known = (to - from) as u32;
                        *sum = values.iter().fold(0, total);
                    }
                    Some(bits) if bits.unset_bits() == bits.len() => {}
                    Some(bits) => {
                        let valid =
                            values.iter().enumerate().filter(|(at, _)| bits.get_bit(from + at));
                        *sum =
                            valid.map(|(_, value)| value).inspect(|_| *known += 1).fold(0, total);
                    }
                }
            }
        }
        let engine = text(&self.engine, from);
        let is_partial = engine.as_deref() == Some(ENGINE_PARTIAL);
        let is_exact = engine.as_deref() == Some(ENGINE_EXACT);
        Ok(Run { tasks: (to - from) as u32, sums, is_partial, is_exact })
    }

    /// A text of a row.
    pub fn text(&self, name: &str, at: usize) -> Option<String> {
        text(self.frame.column(name).ok()?, at)
    }

    /// A signed number of a row.
    pub fn signed(&self, name: &str, at: usize) -> Option<i64> {
        self.frame.column(name).ok()?.i64().ok()?.get(at)
    }

    pub(super) fn unsigned(&self, name: &str, at: usize) -> Option<u64> {
        self.frame.column(name).ok()?.u64().ok()?.get(at)
    }

    pub(super) fn truth(&self, name: &str, at: usize) -> bool {
        let column: Option<&BooleanChunked> =
            self.frame.column(name).ok().and_then(|column| column.bool().ok());
        column.and_then(|column| column.get(at)).unwrap_or(false)
    }

    /// A row's instructions, if the engine counted all of them.
    pub(super) fn exact_instructions(&self, at: usize) -> Option<u64> {
        let is_exact = self.engine.str().ok()?.get(at) == Some(ENGINE_EXACT);
        self.metrics[records::metric::INSTRUCTIONS].u64().ok()?.get(at).filter(|_| is_exact)
    }

    /// A row's counters.
    pub fn counted(&self, at: usize) -> Counted {
        let values = std::array::from_fn(|index| self.metrics[index].u64().ok()?.get(at));
        let engine = text(&self.engine, at);
        let is_partial = engine.as_deref() == Some(ENGINE_PARTIAL);
        let is_exact = engine.as_deref() == Some(ENGINE_EXACT);
        debug_assert!(
            is_exact || is_partial || values[0].is_none(),
            "what the engine did not count is null"
        );
        Counted { values, is_partial, is_exact }
    }
}

/// Reads a table, and says so if it takes long.
pub(super) fn read(store: &dyn Store, table: Table) -> Result<Option<DataFrame>, StoreError> {
    let step = Step::begin(&format!("reading {}", table.name()));
    let frame = store.frame(table, None)?;
    step.end(&match &frame {
        Some(frame) => format!("{} rows", frame.height()),
        None => "none".to_owned(),
    });
    Ok(frame)
}

pub(super) fn text(column: &Column, at: usize) -> Option<String> {
    column.str().ok()?.get(at).map(str::to_owned)
}
