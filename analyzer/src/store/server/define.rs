//! Making and upgrading the schema.

use mysql::prelude::Queryable;

use super::super::address::Server;
use super::super::{Address, StoreError};
use super::connection::{Connection, Purpose};
use super::error::ServerError;
use super::schema::{VERSION, VERSIONS, migration};

/// What was done to a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The version before; 0 = none.
    pub from: u32,
    /// The version now.
    pub to: u32,
}

fn server(address: &Address) -> Result<Server, StoreError> {
    address.server()?.ok_or_else(|| {
        StoreError::Address(format!(
            "{address}: a folder has no schema to define (mysql://USER@HOST/DATABASE has)"
        ))
    })
}

/// Makes the schema (`is_new`), or brings an older one up to date. A schema that is as it should be is
/// left alone.
///
/// # Errors
/// When the server fails, or the schema is not of the expected age.
pub fn define(address: &Address, is_new: bool) -> Result<Definition, StoreError> {
    let mut connection = Connection::open(server(address)?, Purpose::Write)?;
    let from = connection.schema_version()?;
    if from > VERSION || (from > 0 && from < VERSION && is_new) || (from == 0 && !is_new) {
        return Err(StoreError::ServerSchema { server: connection.name, found: from });
    }
    connection.read(|conn| Ok(conn.query_drop(VERSIONS)?))?;
    for version in from + 1..=VERSION {
        connection.read(|conn| {
            for statement in migration(version) {
                match conn.query_drop(statement).map_err(ServerError::from) {
                    // Done by a run that was killed.
                    Err(error) if error.is_done_already() => {}
                    other => other?,
                }
            }
            conn.exec_drop("INSERT INTO `schema_version` (`version`) VALUES (?)", (version,))?;
            Ok::<_, ServerError>(())
        })?;
    }
    Ok(Definition { from, to: VERSION })
}

/// The statements that give two users the rights they need: one who ingests and one who reads.
///
/// # Errors
/// When the address is not a server's.
pub fn grants(address: &Address) -> Result<String, StoreError> {
    let database = server(address)?.database.replace('`', "``");
    Ok(format!(
        "-- ingest\n\
         GRANT SELECT, INSERT, UPDATE ON `{database}`.* TO 'INGEST_USER'@'%';\n\
         -- report, and any SQL client\n\
         GRANT SELECT, SHOW VIEW ON `{database}`.* TO 'REPORT_USER'@'%';\n\
         -- purge; and ingest of an undamaged copy of a record file whose damaged one was taken in\n\
         GRANT SELECT, DELETE ON `{database}`.* TO 'PURGE_USER'@'%';\n"
    ))
}
