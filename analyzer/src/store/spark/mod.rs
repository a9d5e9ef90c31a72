//! A store in a folder, read by the user's own Spark: beyond one machine, or where only Spark reaches it.
//!
//! The files are those that `store.json` names, as for a reader on this machine, so a report is of one state.
//! Spark reads an unsigned number of 64 bits as decimal(20,0), sums it as decimal(30,0), and writes it into
//! JSON digit by digit: nothing is a double on the way.

pub mod error;
pub mod row;
pub mod session;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use serde_json::{Value, json};

use crate::store::api::{Sql, Store, whole};
use crate::store::error::StoreError;
use crate::store::folder::manifest::{Manifest, lock_to_read};
use crate::store::table::{Kind, Table};
use error::SparkError;
use row::SparkRow;
use session::{Session, Start};

/// Rows that a scan hands over at once.
const ROWS_AT_ONCE: usize = 16_384;
/// What Hadoop takes for a pattern in a path.
const PATTERNS: [char; 8] = ['*', '?', '[', ']', '{', '}', ',', '\\'];

/// A store, and the Spark that reads it.
#[derive(Debug)]
pub struct SparkStore {
    session: RefCell<Session>,
    /// Tables that were read whole: a report asks for some of them twice.
    frames: RefCell<BTreeMap<Table, Option<DataFrame>>>,
    /// Tables that have files.
    filled: BTreeSet<Table>,
    _lock: Option<File>,
}

impl SparkStore {
    /// Starts Spark and looks at the store; of the tables of tasks without what is surely of other applications
    /// than these.
    ///
    /// # Errors
    /// When Spark does not start, there is no store, or it has another schema.
    pub fn open(
        place: &Path,
        start: &Start,
        applications: &[String],
    ) -> Result<SparkStore, StoreError> {
        let is_here = place.is_dir();
        let root = match is_here {
            // Spark takes a path without a scheme for one of its default file system's.
            true => format!("file://{}", place.canonicalize().unwrap_or(place.into()).display()),
            false => place.display().to_string(),
        };
        // What is wrong here needs no Spark to say so.
        let lock = is_here.then(|| lock_to_read(place)).flatten();
        let here = is_here.then(|| Manifest::read(place)).transpose()?;
        let mut session = Session::start(start)?;
        let manifest = match here {
            Some(manifest) => manifest,
            None => {
                let question =
                    json!({"is": "text", "path": format!("{}/store.json", escape(&root))});
                let mut text = None;
                let answer =
                    session.ask(&question, &mut |line| text = Some(session::text_of(line)));
                answer.map_err(|error| match error.is_missing_path() {
                    true => StoreError::Missing(place.to_owned()),
                    false => error.into(),
                })?;
                let text = text.ok_or_else(|| StoreError::Missing(place.to_owned()))??;
                Manifest::parse(text.as_bytes(), place)?
            }
        };
        let mut filled = BTreeSet::new();
        for table in Table::ALL {
            let is_of_tasks = matches!(table, Table::Tasks | Table::SparkTasks);
            let parts = manifest.parts_of(if is_of_tasks { applications } else { &[] });
            let files = parts.filter(|part| part.rows.contains_key(table.name()));
            let files = files.map(|part| part.path(Path::new(&root), table.name()));
            let paths: Vec<_> = files.map(|path| escape(&path.display().to_string())).collect();
            if !paths.is_empty() {
                filled.insert(table);
            }
            let columns: Vec<_> =
                table.columns().iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
            let question = json!({
                "is": "files",
                "name": table.name(),
                "paths": paths,
                "schema": schema(&columns),
            });
            session.ask(&question, &mut |_| {})?;
        }
        let (session, frames) = (RefCell::new(session), RefCell::default());
        Ok(SparkStore { session, frames, filled, _lock: lock })
    }
}

impl Sql for SparkStore {
    fn has_rows(&self, table: Table) -> bool {
        self.filled.contains(&table)
    }

    fn name_rows(
        &self,
        name: &str,
        columns: &[(&str, Kind)],
        rows: &[Value],
    ) -> Result<(), StoreError> {
        let rows = Value::from(rows).to_string();
        let question = json!({"is": "rows", "name": name, "rows": rows, "schema": schema(columns)});
        Ok(self.session.borrow_mut().ask(&question, &mut |_| {})?)
    }

    fn query(
        &self,
        sql: &str,
        each: &mut dyn FnMut(&SparkRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT to_json(struct(*)) FROM ({sql})");
        let mut failed = Ok(());
        let question = json!({"is": "query", "sql": sql, "is_large": false});
        self.session.borrow_mut().ask(&question, &mut |line| {
            if failed.is_ok() {
                failed = SparkRow::parse(line).map_err(StoreError::from).and_then(|row| each(&row));
            }
        })?;
        failed
    }

    fn rows(
        &self,
        table: Table,
        columns: Option<&[&str]>,
        condition: &str,
        each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let is_wanted = |name: &str| columns.is_none_or(|columns| columns.contains(&name));
        let columns: Vec<_> = table.columns().iter().filter(|(name, _)| is_wanted(name)).collect();
        let names: Vec<_> = columns.iter().map(|(name, _)| format!("t.`{name}`")).collect();
        // Short names: they stand in every row.
        let short: Vec<_> = (0..columns.len()).map(|at| at.to_string()).collect();
        let named: Vec<_> =
            names.iter().zip(&short).map(|(name, short)| format!("{name} AS `{short}`")).collect();
        let sql = format!(
            "SELECT concat_ws(' ', t.file_name, t.row_index, to_json(struct({}))) FROM {} t {condition}",
            named.join(", "),
            table.name()
        );
        let is_large = matches!(table, Table::Tasks | Table::SparkTasks);
        let question = json!({"is": "query", "sql": sql, "is_large": is_large});
        // Spark hands them over in any order, and to sort them there would cost it a second job.
        let mut rows: Vec<(String, u64, String)> = Vec::new();
        let mut failed = None;
        self.session.borrow_mut().ask(&question, &mut |line| match placed(line) {
            Some(row) => rows.push(row),
            None => failed = Some(format!("a row of {} without its place", table.name())),
        })?;
        if let Some(what) = failed {
            return Err(SparkError::Answer { what }.into());
        }
        rows.sort_unstable();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let rows = rows.iter().map(|(.., row)| SparkRow::parse(row));
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let made = columns.iter().zip(&short);
            let made = made.map(|((name, kind), short)| column(name, *kind, short, &rows));
            each(DataFrame::new(rows.len(), made.collect::<Result<_, _>>()?)?)?;
        }
        Ok(())
    }
}

impl Store for SparkStore {
    fn scan(
        &self,
        table: Table,
        columns: Option<&[&str]>,
        _applications: &[String],
        each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.rows(table, columns, "", each)
    }

    fn frame(
        &self,
        table: Table,
        columns: Option<&[&str]>,
    ) -> Result<Option<DataFrame>, StoreError> {
        if let Some(frame) = self.frames.borrow().get(&table).filter(|_| columns.is_none()) {
            return Ok(frame.clone());
        }
        let frame = whole(self, table, columns)?;
        if columns.is_none() {
            self.frames.borrow_mut().insert(table, frame.clone());
        }
        Ok(frame)
    }

    fn sql(&self) -> Option<&dyn Sql> {
        Some(self)
    }
}

/// Columns as Spark declares them.
fn schema(columns: &[(&str, Kind)]) -> String {
    let declared = columns.iter().map(|(name, kind)| {
        let kind = match kind {
            Kind::Text => "string",
            Kind::Signed => "bigint",
            Kind::Unsigned => "decimal(20,0)",
            Kind::Truth => "boolean",
        };
        format!("`{name}` {kind}")
    });
    declared.collect::<Vec<_>>().join(", ")
}

/// A path in which nothing is a pattern.
fn escape(path: &str) -> String {
    let escape = |one: char| match PATTERNS.contains(&one) {
        true => format!("\\{one}"),
        false => one.to_string(),
    };
    path.chars().map(escape).collect()
}

/// A line of a table: its file, its place there, the row.
fn placed(line: &str) -> Option<(String, u64, String)> {
    let (file, rest) = line.split_once(' ')?;
    let (index, row) = rest.split_once(' ')?;
    Some((file.to_owned(), index.parse().ok()?, row.to_owned()))
}

/// A column of rows.
fn column(name: &str, kind: Kind, key: &str, rows: &[SparkRow]) -> Result<Column, SparkError> {
    type Values<T> = Result<Vec<Option<T>>, SparkError>;
    let called = name.into();
    let rows = rows.iter();
    let series = match kind {
        Kind::Text => Series::new(called, rows.map(|row| row.text(key)).collect::<Values<_>>()?),
        Kind::Signed => {
            Series::new(called, rows.map(|row| row.signed(key)).collect::<Values<_>>()?)
        }
        Kind::Unsigned => {
            Series::new(called, rows.map(|row| row.unsigned(key)).collect::<Values<_>>()?)
        }
        Kind::Truth => Series::new(called, rows.map(|row| row.truth(key)).collect::<Values<_>>()?),
    };
    if name == "process_id" && series.null_count() > 0 {
        return Err(SparkError::Answer { what: "a row of no process".into() });
    }
    Ok(series.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_path_is_a_pattern() {
        assert_eq!(escape("file:///a b/{x}*/t"), "file:///a b/\\{x\\}\\*/t");
    }

    #[test]
    fn unsigned_numbers_stay_whole() {
        let rows = ["{\"0\":18446744073709551615}", "{}"].map(|row| SparkRow::parse(row).unwrap());
        let column = column("x", Kind::Unsigned, "0", &rows).unwrap();
        let values = column.u64().unwrap();
        assert_eq!((values.get(0), values.get(1)), (Some(u64::MAX), None));
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        assert_eq!(placed("a.parquet 7 {}"), Some(("a.parquet".into(), 7, "{}".into())));
        for line in ["", "a.parquet", "a.parquet 7", "a.parquet x {}", "a.parquet -1 {}"] {
            assert_eq!(placed(line), None, "{line:?}");
        }
        let rows = ["{\"0\":-1}"].map(|row| SparkRow::parse(row).unwrap());
        assert!(column("x", Kind::Unsigned, "0", &rows).is_err());
        let rows = ["{}"].map(|row| SparkRow::parse(row).unwrap());
        assert!(column("process_id", Kind::Text, "0", &rows).is_err());
    }
}
