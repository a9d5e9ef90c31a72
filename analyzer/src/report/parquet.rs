//! A report as a Parquet file, with the columns of CSV in their own types.

use std::io::{self, Write};

use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};
use serde_json::Value;

use crate::report::figure::{Figure, MILLION, Scale};
use crate::report::key::{Key, Part, Place};
use crate::report::print::Report;
use crate::report::rows::Said;

impl Report<'_> {
    /// Prints a Parquet file: unknown is null; `at_least` names the lower bounds, separated by `;`.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn parquet(&self, out: &mut impl Write, figures: &[Figure]) -> io::Result<()> {
        let mut columns = self.key_columns();
        let rows: Vec<_> = self.answer.rows.iter().map(|(_, row)| row).collect();
        for figure in figures {
            let values = rows.iter().map(|row| row.said(*figure).value());
            let name = figure.name().into();
            columns.push(match figure.scale() {
                Scale::Millionths => {
                    let ratio = |value: Option<u64>| value.map(|one| one as f64 / MILLION as f64);
                    Series::new(name, values.map(ratio).collect::<Vec<_>>()).into()
                }
                _ => Series::new(name, values.collect::<Vec<_>>()).into(),
            });
        }
        let bounds = rows.iter().map(|row| {
            let is_bound = |figure: &&Figure| matches!(row.said(**figure), Said::AtLeast(_));
            let names: Vec<_> = figures.iter().filter(is_bound).map(|one| one.name()).collect();
            names.join(";")
        });
        columns.push(Series::new("at_least".into(), bounds.collect::<Vec<_>>()).into());
        let mut bytes = Vec::new();
        let written = DataFrame::new(rows.len(), columns)
            .and_then(|mut frame| ParquetWriter::new(&mut bytes).finish(&mut frame));
        written.map_err(io::Error::other)?;
        out.write_all(&bytes)
    }

    fn key_columns(&self) -> Vec<Column> {
        let probe = Key::new(self.by, &Place::default(), Part::Tasks);
        let names: Vec<_> = self.keys(&probe).into_iter().map(|(name, _)| name).collect();
        let rows: Vec<_> = self.answer.rows.iter().map(|(key, _)| self.keys(key)).collect();
        let column = |(at, name): (usize, &&str)| {
            let values = || rows.iter().map(move |row| &row[at].1);
            // Ids of Spark's and times are numbers, names are texts, also where all are unknown.
            match *name {
                "tid" | "time_ms" | "until_ms" | "query" | "job" | "stage" | "stage_attempt"
                | "task_id" => {
                    Series::new((*name).into(), values().map(Value::as_i64).collect::<Vec<_>>())
                }
                _ => Series::new((*name).into(), values().map(Value::as_str).collect::<Vec<_>>()),
            }
        };
        names.iter().enumerate().map(|one| column(one).into()).collect()
    }
}
