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

use crate::store::error::StoreError;
use crate::store::server::error::ServerError;
use crate::store::server::query::rows;
use crate::store::server::schema::{added_columns, key_column};
use crate::store::table::{Kind, Table};

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
        let is_on: Vec<bool> = rows(conn, "SELECT @@GLOBAL.local_infile", ())?;
        if is_on != [true] {
            return Ok(Loader { memory: None });
        }
        let memory = Arc::new(Mutex::new(Vec::new()));
        let rows = Arc::clone(&memory);
        conn.set_local_infile_handler(Some(LocalInfileHandler::new(move |_, out| {
            out.write_all(&rows.lock().unwrap_or_else(PoisonError::into_inner))
        })));
        Ok(Loader { memory: Some(memory) })
    }

    /// Puts rows into a table: new ones, or in the place of others (`is_there`), which may be there.
    ///
    /// # Errors
    /// When the server fails or does not take every row as it is.
    pub fn put(
        &self,
        connection: &mut Transaction<'_>,
        rows: &Rows<'_>,
        is_there: bool,
    ) -> Result<(), StoreError> {
        let height = rows.frame.height() as u64;
        if height == 0 {
            return Ok(());
        }
        let table = rows.table;
        let mut columns: Vec<&str> = added_columns(table).to_vec();
        columns.extend(table.columns().iter().map(|(name, _)| name.as_str()));
        let list: Vec<_> = columns.iter().map(|name| format!("`{name}`")).collect();
        match &self.memory {
            Some(memory) if !is_there => {
                let mut text = Vec::new();
                write_rows(&mut text, rows)?;
                *memory.lock().unwrap_or_else(PoisonError::into_inner) = text;
                let statement = format!(
                    "LOAD DATA LOCAL INFILE 'rows' INTO TABLE `{}` CHARACTER SET utf8mb4 \
                     FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({})",
                    table.name(),
                    list.join(", ")
                );
                connection.query_drop(statement).map_err(ServerError::from)?;
                check(connection, table, height)?;
            }
            _ => {
                let update = match is_there {
                    // MySQL's own word for the new row is none of MariaDB's, and the other way round.
                    true => list.iter().map(|name| format!("{name} = VALUES({name})")).collect(),
                    false => Vec::new(),
                };
                let (list, update) = (list.join(", "), update.join(", "));
                let width = columns.len();
                let mut batch = Batch { table, list, update, width, values: Vec::new(), bytes: 0 };
                batch.add(connection, rows)?;
                batch.send(connection)?;
            }
        }
        Ok(())
    }
}

/// Rows of a table.
pub struct Rows<'f> {
    /// The table.
    pub table: Table,
    /// The key of the application that they are of; a process's rows have their own.
    pub key: &'f str,
    /// The number of each among the rows of its process or application.
    pub ordinals: &'f [u64],
    /// The rows.
    pub frame: &'f DataFrame,
}

/// What a server says of VALUES in an upsert, which it takes (ER_WARN_DEPRECATED_SYNTAX).
const DEPRECATED: u16 = 1287;

/// Whether so many rows were taken as they are.
fn check(connection: &mut Transaction<'_>, table: Table, sent: u64) -> Result<(), ServerError> {
    let taken = connection.affected_rows();
    if taken == sent && connection.warnings() == 0 {
        return Ok(());
    }
    Err(ServerError::not_clean(table.name(), sent, taken, warnings(connection)?.join("; ")))
}

/// The first warnings of the last statement that say something of its values.
fn warnings(connection: &mut Transaction<'_>) -> Result<Vec<String>, ServerError> {
    if connection.warnings() == 0 {
        return Ok(Vec::new());
    }
    let mut texts = Vec::new();
    for row in connection.query_iter("SHOW WARNINGS")? {
        let mut row: Row = row?;
        let code: Option<u16> = row.take_opt(1).and_then(Result::ok);
        if code != Some(DEPRECATED) && texts.len() < 3 {
            texts.extend(row.take_opt::<String, _>(2).and_then(Result::ok));
        }
    }
    Ok(texts)
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
fn added<'f>(rows: &Rows<'f>, at: usize) -> impl Iterator<Item = Added<'f>> {
    let (table, key, ordinal) = (rows.table, rows.key, rows.ordinals[at]);
    added_columns(table).iter().map(move |name| {
        if *name == key_column(table) { Added::Key(key) } else { Added::Ordinal(ordinal) }
    })
}

enum Added<'k> {
    Key(&'k str),
    Ordinal(u64),
}

/// Appends rows as LOAD DATA reads them.
fn write_rows(text: &mut Vec<u8>, rows: &Rows<'_>) -> Result<(), StoreError> {
    let cells = cells(rows.table, rows.frame)?;
    let number = |text: &mut Vec<u8>, value: Option<&dyn std::fmt::Display>| {
        match value {
            Some(value) => write!(text, "{value}"),
            None => text.write_all(b"\\N"),
        }
        .expect("memory takes all");
    };
    for at in 0..rows.frame.height() {
        for one in added(rows, at) {
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
    /// What is done to a row that is there: nothing, which is an error, or all columns anew.
    update: String,
    width: usize,
    values: Vec<Value>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, connection: &mut Transaction<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
        let cells = cells(self.table, rows.frame)?;
        for at in 0..rows.frame.height() {
            if self.values.len() + self.width > MAX_VALUES || self.bytes > MAX_BYTES {
                self.send(connection)?;
            }
            for one in added(rows, at) {
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
        let on_duplicate = if self.update.is_empty() { "" } else { " ON DUPLICATE KEY UPDATE " };
        let statement = format!(
            "INSERT INTO `{}` ({}) VALUES {}{on_duplicate}{}",
            self.table.name(),
            self.list,
            vec![row.as_str(); rows].join(","),
            self.update
        );
        let values = std::mem::take(&mut self.values);
        self.bytes = 0;
        connection.exec_drop(statement, Params::Positional(values))?;
        if self.update.is_empty() {
            return check(connection, self.table, rows as u64);
        }
        // A row that was there counts twice, one that was the same not at all.
        match warnings(connection)? {
            none if none.is_empty() => Ok(()),
            some => {
                let taken = connection.affected_rows();
                Err(ServerError::not_clean(self.table.name(), rows as u64, taken, some.join("; ")))
            }
        }
    }
}
