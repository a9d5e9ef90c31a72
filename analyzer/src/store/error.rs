//! Why a store cannot be used.

use std::io;
use std::path::PathBuf;

use polars::prelude::PolarsError;

use crate::console::exit::{Exit, Failure};
use crate::store::server::error::ServerError;
use crate::store::spark::error::SparkError;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something cannot be written.
    #[error("{}: {error}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A source cannot be read.
    #[error("{0}")]
    Source(String),
    /// There is no store.
    #[error("{}: no store here (analyzer ingest --store makes one)", .0.display())]
    Missing(PathBuf),
    /// The folder holds other things.
    #[error("{}: the folder holds other files and is no store", .0.display())]
    Foreign(PathBuf),
    /// The store has another schema.
    #[error(
        "{}: the store has schema version {found}, this program knows {known}; make a new store \
         from the record files and event logs, or use the program that wrote it",
        path.display()
    )]
    Schema {
        /// The store.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// A file of the store is not what it should be.
    #[error(
        "{}: damaged or missing; remove it if it is there, and ingest record files and event logs again",
        .0.display()
    )]
    Damaged(PathBuf),
    /// A value of the store is not what it should be.
    #[error(
        "table {table}: a value in column {column} that this program does not write; ingest record files \
         and event logs into a new store"
    )]
    Value {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// The address of a server is not right.
    #[error("{0}")]
    Address(String),
    /// A server cannot be reached or refuses.
    #[error("{0}")]
    Server(#[from] ServerError),
    /// Spark gave no answer.
    #[error("{0}")]
    Spark(#[from] SparkError),
    /// The server's database has no schema or another one.
    #[error("{server}: {}", schema_text(*.found, *.known))]
    ServerSchema {
        /// The server.
        server: String,
        /// Its version; 0 = none.
        found: u32,
        /// The one that this program needs.
        known: u32,
    },
    /// polars refuses.
    #[error("{0}")]
    Frame(#[from] PolarsError),
}

fn schema_text(found: u32, known: u32) -> String {
    match found {
        0 => "no schema in this database (analyzer schema init makes it)".into(),
        found if found < known => format!(
            "the schema has version {found}, this program needs {known} (analyzer schema upgrade)"
        ),
        found => format!(
            "the schema has version {found}, this program knows {known}; use the program that made \
             it or a newer one"
        ),
    }
}

impl From<mysql::Error> for StoreError {
    fn from(error: mysql::Error) -> StoreError {
        ServerError::from(error).into()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let exit = match &error {
            StoreError::Write { .. } | StoreError::Foreign(_) => Exit::BadOutput,
            StoreError::Address(_) => Exit::Usage,
            StoreError::Server(error) => error.exit(),
            StoreError::Spark(error) => error.exit(),
            StoreError::Read { .. }
            | StoreError::Source(_)
            | StoreError::Missing(_)
            | StoreError::Schema { .. }
            | StoreError::ServerSchema { .. }
            | StoreError::Damaged(_)
            | StoreError::Value { .. }
            | StoreError::Frame(_) => Exit::BadInput,
        };
        let way_out = match &error {
            StoreError::Write { error, .. }
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                "; free some space and run the same command again: it goes on where it stopped"
            }
            _ => "",
        };
        if matches!(error, StoreError::Source(_) | StoreError::Spark(_)) {
            return Failure::new(exit, error);
        }
        Failure::new(exit, format!("store {error}{way_out}"))
    }
}
