//! Columns of the tables, made from rows.

use polars::prelude::{Column, DataFrame, NamedFrom, PolarsResult, Series};
use records::{METRICS, MetricSet};

use crate::model::counts::Counts;

/// Collects a table's columns.
pub struct Columns<'r, R> {
    rows: &'r [R],
    columns: Vec<Column>,
}

impl<'r, R> Columns<'r, R> {
    /// Columns for these rows.
    pub fn of(rows: &'r [R]) -> Self {
        Columns { rows, columns: Vec::new() }
    }

    fn push<T>(mut self, name: &str, value: impl Fn(&'r R) -> Option<T>) -> Self
    where
        Series: NamedFrom<Vec<Option<T>>, [Option<T>]>,
        Vec<Option<T>>: AsRef<[Option<T>]>,
    {
        let values: Vec<Option<T>> = self.rows.iter().map(value).collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// A text column.
    pub fn text(self, name: &str, value: impl Fn(&'r R) -> Option<&'r str>) -> Self {
        self.push(name, value)
    }

    /// A column of texts that are made for it.
    pub fn made_text(mut self, name: &str, value: impl Fn(&'r R) -> Option<String>) -> Self {
        let values: Vec<Option<String>> = self.rows.iter().map(value).collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// A column of signed integers.
    pub fn signed(self, name: &str, value: impl Fn(&'r R) -> Option<i64>) -> Self {
        self.push(name, value)
    }

    /// A column of unsigned integers.
    pub fn unsigned(self, name: &str, value: impl Fn(&'r R) -> Option<u64>) -> Self {
        self.push(name, value)
    }

    /// A column of truth values.
    pub fn truth(self, name: &str, value: impl Fn(&'r R) -> Option<bool>) -> Self {
        self.push(name, value)
    }

    /// A column per metric of the record format.
    pub fn counters(self, value: impl Fn(&'r R) -> &'r Counts) -> Self {
        self.counters_among(MetricSet::ALL, value)
    }

    /// A column per metric of a set.
    pub fn counters_among(
        mut self,
        metrics: MetricSet,
        value: impl Fn(&'r R) -> &'r Counts,
    ) -> Self {
        for (index, metric) in METRICS.iter().enumerate() {
            if metrics.contains(index) {
                self = self.unsigned(metric.name, |row| value(row).get(index));
            }
        }
        self
    }

    /// The table.
    ///
    /// # Errors
    /// When two columns have the same name.
    pub fn frame(self) -> PolarsResult<DataFrame> {
        DataFrame::new(self.rows.len(), self.columns)
    }
}
