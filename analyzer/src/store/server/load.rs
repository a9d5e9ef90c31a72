//! Loading rows: LOAD DATA LOCAL from memory where the server allows it, else INSERT of many rows.
//!
//! LOCAL makes warnings of errors even in strict mode: wrong values become 0, doubles are dropped. So the
//! number of rows that were taken and the warnings are looked at, and a load that is not clean is an error
//! that rolls the transaction back.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use mysql::prelude::Queryable;
use mysql::{Conn, LocalInfileHandler, Params, Row, Transaction, Value};
use polars::prelude::{BooleanChunked, DataFrame, Int64Chunked, StringChunked, UInt64Chunked};

use super::super::StoreError;
use super::super::table::{Kind, Table};
use super::error::ServerError;
use super::schema::{added_columns, key_column};

/// An INSERT has at most this many values (the protocol allows 65,535) ...
const MAX_VALUES: usize = 30_000;
/// ... and is sent when its texts have this many bytes, far below every server's max_allowed_packet.
const MAX_BYTES: usize = 512 << 10;

/// How rows are loaded on a connection.
#[derive(Clone)]
pub struct Loader {
    /// What the server's next request for a local file is answered with, if it allows such loads. No
    /// request is ever answered with a file.
    memory: Option<Arc<Mutex<Vec<u8>>>>,
}

/// A column's values.
enum Cells<'f> {
    Text(&'f StringChunked),
    Signed(&'f Int64Chunked),
    Unsigned(&'f UInt64Chunked),
    Truth(&'f BooleanChunked),
}

impl Loader {
    /// The best way on this connection.
    ///
    /// # Errors
    /// When the server fails.
    pub fn of(conn: &mut Conn) -> Result<Loader, ServerError> {
        let is_on: Option<bool> = conn.query_first("SELECT @@GLOBAL.local_infile")?;
        if is_on != Some(true) {
            return Ok(Loader { memory: None });
        }
        let memory = Arc::new(Mutex::new(Vec::new()));
        let rows = Arc::clone(&memory);
        conn.set_local_infile_handler(Some(LocalInfileHandler::new(move |_, out| {
            out.write_all(&rows.lock().unwrap_or_else(PoisonError::into_inner))
        })));
        Ok(Loader { memory: Some(memory) })
    }

    /// Loads the rows of one table, of several sources: (key, rows).
    ///
    /// # Errors
    /// When the server fails or does not take every row as it is.
    pub fn load(
        &self,
        connection: &mut Transaction<'_>,
        table: Table,
        frames: &[(String, DataFrame)],
    ) -> Result<(), StoreError> {
        let mut columns: Vec<&str> = added_columns(table).to_vec();
        columns.extend(table.columns().iter().map(|(name, _)| name.as_str()));
        let list: Vec<_> = columns.iter().map(|name| format!("`{name}`")).collect();
        let list = list.join(", ");
        match &self.memory {
            Some(memory) => {
                let mut text = Vec::new();
                let mut rows = 0;
                for (key, frame) in frames {
                    rows += frame.height() as u64;
                    write_rows(&mut text, table, key, frame)?;
                }
                if rows == 0 {
                    return Ok(());
                }
                *memory.lock().unwrap_or_else(PoisonError::into_inner) = text;
                let statement = format!(
                    "LOAD DATA LOCAL INFILE 'rows' INTO TABLE `{}` CHARACTER SET utf8mb4 \
                     FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({list})",
                    table.name()
                );
                connection.query_drop(statement).map_err(ServerError::from)?;
                check(connection, table, rows)?;
            }
            None => {
                let mut batch =
                    Batch { table, list, width: columns.len(), values: Vec::new(), bytes: 0 };
                for (key, frame) in frames {
                    batch.add(connection, key, frame)?;
                }
                batch.send(connection)?;
            }
        }
        Ok(())
    }
}

fn check(connection: &mut Transaction<'_>, table: Table, sent: u64) -> Result<(), ServerError> {
    let taken = connection.affected_rows();
    if taken == sent && connection.warnings() == 0 {
        return Ok(());
    }
    let warnings: Vec<Row> = connection.query("SHOW WARNINGS LIMIT 3")?;
    let texts = warnings.into_iter().filter_map(|mut row| row.take::<String, _>(2));
    let texts = texts.collect::<Vec<_>>().join("; ");
    Err(ServerError::not_clean(table.name(), sent, taken, texts))
}

fn cells<'f>(table: Table, frame: &'f DataFrame) -> Result<Vec<Cells<'f>>, StoreError> {
    let cells = |(name, kind): &(String, Kind)| {
        let column = frame.column(name)?;
        Ok(match kind {
            Kind::Text => Cells::Text(column.str()?),
            Kind::Signed => Cells::Signed(column.i64()?),
            Kind::Unsigned => Cells::Unsigned(column.u64()?),
            Kind::Truth => Cells::Truth(column.bool()?),
        })
    };
    table.columns().iter().map(cells).collect()
}

/// The columns that the database adds to a row.
fn added<'k>(table: Table, key: &'k str, ordinal: usize) -> impl Iterator<Item = Added<'k>> {
    added_columns(table).iter().map(move |name| {
        if *name == key_column(table) { Added::Key(key) } else { Added::Ordinal(ordinal as u64) }
    })
}

enum Added<'k> {
    Key(&'k str),
    Ordinal(u64),
}

/// Appends rows as LOAD DATA reads them.
fn write_rows(
    text: &mut Vec<u8>,
    table: Table,
    key: &str,
    frame: &DataFrame,
) -> Result<(), StoreError> {
    let cells = cells(table, frame)?;
    let number = |text: &mut Vec<u8>, value: Option<&dyn std::fmt::Display>| {
        match value {
            Some(value) => write!(text, "{value}"),
            None => text.write_all(b"\\N"),
        }
        .expect("memory takes all");
    };
    for at in 0..frame.height() {
        for one in added(table, key, at) {
            match one {
                Added::Key(key) => escape(text, key),
                Added::Ordinal(ordinal) => number(text, Some(&ordinal)),
            }
            text.push(b'\t');
        }
        for column in &cells {
            match column {
                Cells::Text(values) => match values.get(at) {
                    Some(value) => escape(text, value),
                    None => text.extend(b"\\N"),
                },
                Cells::Signed(values) => {
                    number(text, values.get(at).as_ref().map(|value| value as _))
                }
                Cells::Unsigned(values) => {
                    number(text, values.get(at).as_ref().map(|value| value as _));
                }
                Cells::Truth(values) => {
                    let value = values.get(at).map(u8::from);
                    number(text, value.as_ref().map(|value| value as _));
                }
            }
            text.push(b'\t');
        }
        if let Some(last) = text.last_mut() {
            *last = b'\n';
        }
    }
    Ok(())
}

fn escape(text: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'\\' => text.extend(b"\\\\"),
            b'\t' => text.extend(b"\\t"),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            0 => text.extend(b"\\0"),
            other => text.push(other),
        }
    }
}

/// Rows of an INSERT that is being put together.
struct Batch {
    table: Table,
    list: String,
    width: usize,
    values: Vec<Value>,
    bytes: usize,
}

impl Batch {
    fn add(
        &mut self,
        connection: &mut Transaction<'_>,
        key: &str,
        frame: &DataFrame,
    ) -> Result<(), StoreError> {
        let cells = cells(self.table, frame)?;
        for at in 0..frame.height() {
            if self.values.len() + self.width > MAX_VALUES || self.bytes > MAX_BYTES {
                self.send(connection)?;
            }
            for one in added(self.table, key, at) {
                self.values.push(match one {
                    Added::Key(key) => key.into(),
                    Added::Ordinal(ordinal) => ordinal.into(),
                });
            }
            for column in &cells {
                self.values.push(match column {
                    Cells::Text(values) => {
                        self.bytes += values.get(at).map_or(0, str::len);
                        values.get(at).into()
                    }
                    Cells::Signed(values) => values.get(at).into(),
                    Cells::Unsigned(values) => values.get(at).into(),
                    Cells::Truth(values) => values.get(at).into(),
                });
            }
        }
        Ok(())
    }

    fn send(&mut self, connection: &mut Transaction<'_>) -> Result<(), ServerError> {
        let rows = self.values.len() / self.width;
        if rows == 0 {
            return Ok(());
        }
        let row = format!("({})", vec!["?"; self.width].join(","));
        let statement = format!(
            "INSERT INTO `{}` ({}) VALUES {}",
            self.table.name(),
            self.list,
            vec![row.as_str(); rows].join(",")
        );
        let values = std::mem::take(&mut self.values);
        self.bytes = 0;
        connection.exec_drop(statement, Params::Positional(values))?;
        check(connection, self.table, rows as u64)
    }
}
