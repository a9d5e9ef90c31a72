//! Making and upgrading the schema.

use mysql::prelude::Queryable;

use crate::store::address::Address;
use crate::store::error::StoreError;
use crate::store::server::connection::{Connection, Purpose};
use crate::store::server::error::ServerError;
use crate::store::server::schema::{VERSION, VERSIONS, migration};
use crate::store::server_url::Server;

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
        let (server, found, known) = (connection.name, from, VERSION);
        return Err(StoreError::ServerSchema { server, found, known });
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

/// What users do with a store, the rights that this needs, and the option that names the user.
const RIGHTS: [(&str, &str, &str); 3] = [
    ("ingest", "SELECT, INSERT, UPDATE", "--ingest-user"),
    ("report, and any SQL client", "SELECT, SHOW VIEW", "--report-user"),
    (
        "purge; and ingest of an undamaged copy of a record file whose damaged one was taken in",
        "SELECT, DELETE",
        "--purge-user",
    ),
];

/// The statements that give users (in the order of [`RIGHTS`]) the rights they need. Those of users that are not named
/// are comments: whoever pipes all of it into a client gives nothing to a user of a made-up name.
///
/// # Errors
/// When the address is not a server's.
pub fn grants(address: &Address, users: [Option<&str>; 3]) -> Result<String, StoreError> {
    let database = server(address)?.database.replace('`', "``");
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    let mut text = String::new();
    for ((what, rights, option), user) in RIGHTS.into_iter().zip(users) {
        let statement = match user {
            Some(user) => {
                let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
                format!("GRANT {rights} ON `{database}`.* TO {}@{};", quoted(name), quoted(host))
            }
            None => format!("-- GRANT {rights} ON `{database}`.* TO ...;  ({option} USER)"),
        };
        text.push_str(&format!("-- {what}\n{statement}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_users_that_are_named_get_rights() {
        let address: Address = "mysql://admin@db/ru`ns".parse().unwrap();
        let none = grants(&address, [None; 3]).unwrap();
        assert!(none.lines().all(|line| line.starts_with("-- ")), "{none}");
        let some = grants(&address, [Some("o'neil"), None, Some("cleaner@10.0.0.%")]).unwrap();
        let statements: Vec<_> = some.lines().filter(|line| !line.starts_with("--")).collect();
        assert_eq!(
            statements,
            [
                "GRANT SELECT, INSERT, UPDATE ON `ru``ns`.* TO 'o''neil'@'%';",
                "GRANT SELECT, DELETE ON `ru``ns`.* TO 'cleaner'@'10.0.0.%';",
            ]
        );
    }
}
