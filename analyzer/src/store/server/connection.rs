//! A connection with the session that this program needs, transactions, and reading tables.

use std::cell::Cell;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{AccessMode, Conn, OptsBuilder, Params, Transaction, TxOpts, Value};
use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use crate::store::error::StoreError;
use crate::store::server::error::ServerError;
use crate::store::server::load::Loader;
use crate::store::server::query::rows;
use crate::store::server::schema::{VERSION, key_column};
use crate::store::server::trust;
use crate::store::server_url::Server;
use crate::store::table::{Kind, Table};

/// How often a transaction that met another one is done again.
const ATTEMPTS: u32 = 20;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reports: one state of all tables.
    Read,
    /// Ingest.
    Write,
}

/// A connection.
pub struct Connection {
    conn: Conn,
    loader: Loader,
    /// The server's name for messages.
    pub name: String,
}

impl Connection {
    /// Connects and sets the session up: wrong values are errors, and the time zone is UTC.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn open(server: Server, purpose: Purpose) -> Result<Connection, StoreError> {
        let named = |error: mysql::Error| ServerError::from(error).of(&server.name);
        let mut conn = connect(&server)?;
        let isolation = match purpose {
            Purpose::Read => "REPEATABLE READ",
            // Fewer locks between ingests; each locks its source's row first.
            Purpose::Write => "READ COMMITTED",
        };
        for statement in [
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'",
            &format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}"),
        ] {
            conn.query_drop(statement).map_err(named)?;
        }
        let loader = Loader::of(&mut conn).map_err(|error| error.of(&server.name))?;
        Ok(Connection { conn, loader, name: server.name })
    }

    /// How rows are loaded on this connection.
    pub fn loader(&self) -> Loader {
        self.loader.clone()
    }

    /// The schema's version; 0 = there is none.
    ///
    /// # Errors
    /// When the server fails.
    pub fn schema_version(&mut self) -> Result<u32, StoreError> {
        let version = self.read(|conn| {
            Ok(rows::<Option<u32>>(conn, "SELECT MAX(`version`) FROM `schema_version`", ()))
        })?;
        match version.map_err(ServerError::from) {
            Ok(version) => Ok(version.into_iter().next().flatten().unwrap_or(0)),
            Err(error) if error.is_missing_table() => Ok(0),
            Err(error) => Err(error.of(&self.name).into()),
        }
    }

    /// Refuses a database without this program's schema.
    ///
    /// # Errors
    /// When it has another one or none.
    pub fn check_schema(&mut self) -> Result<(), StoreError> {
        match self.schema_version()? {
            VERSION => Ok(()),
            found => {
                let (server, known) = (self.name.clone(), VERSION);
                Err(StoreError::ServerSchema { server, found, known })
            }
        }
    }

    /// Reads all that follows from the state of this moment.
    ///
    /// # Errors
    /// When the server fails.
    pub fn hold_snapshot(&mut self) -> Result<(), StoreError> {
        self.read(|conn| Ok(conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT")?))
    }

    /// Runs statements outside a transaction of their own.
    ///
    /// # Errors
    /// What they meet, with the server's name.
    pub fn read<T>(
        &mut self,
        work: impl FnOnce(&mut Conn) -> Result<T, ServerError>,
    ) -> Result<T, StoreError> {
        work(&mut self.conn).map_err(|error| error.of(&self.name).into())
    }

    /// Does `work` in a transaction, again if it met another one.
    ///
    /// # Errors
    /// What it meets, with the server's name; then nothing of it is done.
    pub fn transact<T>(
        &mut self,
        mode: AccessMode,
        work: impl Fn(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let name = &self.name;
        let conflict = Cell::new(false);
        let named = |error: StoreError| match error {
            StoreError::Server(error) => {
                conflict.set(error.is_conflict());
                StoreError::Server(error.of(name))
            }
            other => other,
        };
        for attempt in 1.. {
            conflict.set(false);
            let options = TxOpts::default().set_access_mode(Some(mode));
            let done = self
                .conn
                .start_transaction(options)
                .map_err(|error| StoreError::from(ServerError::from(error)))
                .and_then(|mut transaction| {
                    // Dropped on an error, it is rolled back.
                    let value = work(&mut transaction)?;
                    transaction.commit().map_err(ServerError::from)?;
                    Ok(value)
                })
                .map_err(named);
            if done.is_ok() || !conflict.get() || attempt == ATTEMPTS {
                return done;
            }
            std::thread::sleep(Duration::from_millis(10 * u64::from(attempt)));
        }
        unreachable!("the last attempt returns")
    }

    /// Hands over a table, of these columns or of all, piece by piece in the order of its key, as the server sends it.
    ///
    /// # Errors
    /// When the server fails, or what `each` says.
    pub fn scan(
        &mut self,
        table: Table,
        columns: Option<&[&str]>,
        each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let wanted = |name: &&(String, Kind)| {
            columns.is_none_or(|columns| columns.contains(&name.0.as_str()))
        };
        let columns: Vec<_> = table.columns().iter().filter(wanted).collect();
        let ordinal = if table.head() == table { "" } else { ", `ordinal`" };
        let rest = format!("ORDER BY `{}`{ordinal}", key_column(table));
        let name = &self.name;
        let read = select(&mut self.conn, table, &columns, &rest, Params::Empty, each);
        read.map_err(|error| match error {
            StoreError::Server(error) => error.of(name).into(),
            other => other,
        })
    }
}

/// How long a server may take for each of its words until it knows the user.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Connects. Until the server knows the user it has little time; statements may take theirs.
fn connect(server: &Server) -> Result<Conn, ServerError> {
    let named = |error: mysql::Error| ServerError::from(error).of(&server.name);
    if server.own_ca && !trust::only_named_ca() {
        return Err(ServerError::other_ca().of(&server.name));
    }
    let opts = OptsBuilder::from_opts(server.opts.clone())
        .read_timeout(Some(HANDSHAKE))
        .write_timeout(Some(HANDSHAKE));
    // The client takes some wrong answers for impossible.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let connected = panic::catch_unwind(AssertUnwindSafe(|| Conn::new(opts)));
    panic::set_hook(hook);
    let conn =
        connected.map_err(|_| ServerError::not_understood().of(&server.name))?.map_err(named)?;
    // SAFETY: the connection keeps its socket open for longer than this borrow.
    let socket = unsafe { BorrowedFd::borrow_raw(conn.as_raw_fd()) };
    // Whatever the socket's family, these are options of every socket.
    let socket = socket.try_clone_to_owned().map(TcpStream::from);
    socket
        .and_then(|socket| {
            socket.set_read_timeout(None)?;
            socket.set_write_timeout(None)
        })
        .map_err(|error| named(error.into()))?;
    Ok(conn)
}

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 16_384;

/// Hands over the rows of one process or application, piece by piece, in their order.
///
/// # Errors
/// When the server fails, or what `each` says.
pub fn read_rows(
    connection: &mut Transaction<'_>,
    table: Table,
    key: &str,
    each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let columns: Vec<_> = table.columns().iter().collect();
    let key_column = key_column(table);
    if table.head() == table {
        let rest = format!("WHERE `{key_column}` = ?");
        return select(connection, table, &columns, &rest, (key,).into(), each);
    }
    let rest = format!("WHERE `{key_column}` = ? ORDER BY `ordinal`");
    select(connection, table, &columns, &rest, (key,).into(), each)
}

/// Hands over rows as the server sends them.
fn select(
    connection: &mut impl Queryable,
    table: Table,
    columns: &[&(String, Kind)],
    rest: &str,
    params: Params,
    each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let list: Vec<_> = columns.iter().map(|(name, _)| format!("`{name}`")).collect();
    let query = format!("SELECT {} FROM `{}` {rest}", list.join(", "), table.name());
    let begin = || columns.iter().map(|(_, kind)| Cells::of(*kind)).collect::<Vec<_>>();
    let frame = |collected: Vec<Cells>, height| {
        let series = columns.iter().zip(collected).map(|((name, _), cells)| cells.column(name));
        DataFrame::new(height, series.collect())
    };
    let (mut collected, mut height) = (begin(), 0);
    // Prepared: then numbers come as numbers.
    for row in connection.exec_iter(query, params)? {
        let values = row?.unwrap();
        for (cells, value) in collected.iter_mut().zip(values) {
            cells.push(value)?;
        }
        height += 1;
        if height == ROWS_AT_ONCE {
            each(frame(std::mem::replace(&mut collected, begin()), height)?)?;
            height = 0;
        }
    }
    if height > 0 {
        each(frame(collected, height)?)?;
    }
    Ok(())
}

/// The values of a column.
enum Cells {
    Text(Vec<Option<String>>),
    Signed(Vec<Option<i64>>),
    Unsigned(Vec<Option<u64>>),
    Truth(Vec<Option<bool>>),
}

impl Cells {
    fn of(kind: Kind) -> Cells {
        match kind {
            Kind::Text => Cells::Text(Vec::new()),
            Kind::Signed => Cells::Signed(Vec::new()),
            Kind::Unsigned => Cells::Unsigned(Vec::new()),
            Kind::Truth => Cells::Truth(Vec::new()),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), mysql::Error> {
        let wrong = |error: mysql::FromValueError| mysql::Error::FromValueError(error.0);
        match self {
            Cells::Text(cells) => cells.push(mysql::from_value_opt(value).map_err(wrong)?),
            Cells::Signed(cells) => cells.push(mysql::from_value_opt(value).map_err(wrong)?),
            Cells::Unsigned(cells) => cells.push(mysql::from_value_opt(value).map_err(wrong)?),
            Cells::Truth(cells) => cells.push(mysql::from_value_opt(value).map_err(wrong)?),
        }
        Ok(())
    }

    fn column(self, name: &str) -> Column {
        match self {
            Cells::Text(cells) => Series::new(name.into(), cells).into(),
            Cells::Signed(cells) => Series::new(name.into(), cells).into(),
            Cells::Unsigned(cells) => Series::new(name.into(), cells).into(),
            Cells::Truth(cells) => Series::new(name.into(), cells).into(),
        }
    }
}
