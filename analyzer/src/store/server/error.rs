//! What a server says when it cannot or will not.

use std::fmt;

use crate::exit::Exit;

/// A server's refusal, with the server's name once it is known.
#[derive(Debug)]
pub struct ServerError {
    /// The server, without user and password.
    server: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Client(mysql::Error),
    /// Rows were not taken as they were sent.
    NotClean {
        table: &'static str,
        sent: u64,
        taken: u64,
        warnings: String,
    },
}

/// Error numbers of MySQL and MariaDB, which agree on these (mysqld_error.h).
mod code {
    pub const FULL: [u16; 4] = [1021, 1114, 3, 28];
    pub const DENIED: [u16; 3] = [1044, 1045, 1698];
    pub const NO_RIGHT: [u16; 4] = [1142, 1143, 1227, 1370];
    pub const NO_DATABASE: u16 = 1049;
    pub const READ_ONLY: [u16; 3] = [1290, 1792, 1836];
    pub const AGAIN: [u16; 2] = [1205, 1213];
    pub const TOO_LARGE: u16 = 1153;
    pub const NO_TABLE: u16 = 1146;
    pub const COLUMN_IS_THERE: u16 = 1060;
}

impl From<mysql::Error> for ServerError {
    fn from(error: mysql::Error) -> ServerError {
        ServerError { server: String::new(), kind: Kind::Client(error) }
    }
}

impl ServerError {
    /// The load of a table was not clean.
    pub fn not_clean(table: &'static str, sent: u64, taken: u64, warnings: String) -> ServerError {
        let kind = Kind::NotClean { table, sent, taken, warnings };
        ServerError { server: String::new(), kind }
    }

    /// The same error, of this server.
    pub fn of(self, server: &str) -> ServerError {
        ServerError { server: server.to_owned(), ..self }
    }

    fn code(&self) -> Option<u16> {
        match &self.kind {
            Kind::Client(mysql::Error::MySqlError(error)) => Some(error.code),
            _ => None,
        }
    }

    /// Whether a table is missing.
    pub fn is_missing_table(&self) -> bool {
        self.code() == Some(code::NO_TABLE)
    }

    /// Whether the column that was to be made is there.
    pub fn is_done_already(&self) -> bool {
        self.code() == Some(code::COLUMN_IS_THERE)
    }

    /// Whether the transaction met another one and is to be done again (deadlock, lock wait).
    pub fn is_conflict(&self) -> bool {
        self.code().is_some_and(|code| code::AGAIN.contains(&code))
    }

    /// The exit code of a command that meets it.
    pub fn exit(&self) -> Exit {
        match (&self.kind, self.code()) {
            (Kind::NotClean { .. }, _) => Exit::BadOutput,
            (_, Some(code))
                if code::FULL.contains(&code)
                    || code::READ_ONLY.contains(&code)
                    || code::NO_RIGHT.contains(&code)
                    || code == code::TOO_LARGE =>
            {
                Exit::BadOutput
            }
            _ => Exit::Environment,
        }
    }

    fn way_out(&self) -> &'static str {
        match self.code() {
            Some(code) if code::FULL.contains(&code) => {
                "; the server is full: free some space there; the same command again goes on where it \
                 stopped"
            }
            Some(code) if code::DENIED.contains(&code) => {
                "; check user, database and password (in the URL, in SPARKANALYZER_MYSQL_PASSWORD, or in \
                 the file that ?password_file= names)"
            }
            Some(code) if code::NO_RIGHT.contains(&code) => {
                "; analyzer schema grants prints the rights that are needed"
            }
            Some(code::NO_DATABASE) => "; make it (CREATE DATABASE), then: analyzer schema init",
            Some(code) if code::READ_ONLY.contains(&code) => {
                "; the server is read-only: write to its primary, or switch read_only off"
            }
            Some(code::TOO_LARGE) => "; raise the server's max_allowed_packet to 16 MiB or more",
            _ => match &self.kind {
                Kind::NotClean { .. } => "; nothing of it was stored",
                Kind::Client(mysql::Error::MySqlError(_)) => "",
                _ => {
                    "; is the server running and reachable? the same command again goes on where it \
                     stopped"
                }
            },
        }
    }
}

impl std::error::Error for ServerError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.server.is_empty() {
            write!(f, "{}: ", self.server)?;
        }
        match &self.kind {
            Kind::Client(mysql::Error::MySqlError(error)) => {
                write!(f, "{} (error {})", error.message, error.code)?;
            }
            // The client's own words may hold its options.
            Kind::Client(mysql::Error::IoError(error)) => write!(f, "{error}")?,
            Kind::Client(mysql::Error::CodecError(error)) => write!(f, "{error}")?,
            Kind::Client(mysql::Error::DriverError(error)) => write!(f, "{error}")?,
            Kind::Client(mysql::Error::TlsError(error)) => write!(f, "TLS: {error}")?,
            Kind::Client(_) => write!(f, "the server's answer was not understood")?,
            Kind::NotClean { table, sent, taken, warnings } => write!(
                f,
                "table {table}: {sent} rows sent, {taken} taken, the server warned: {warnings}"
            )?,
        }
        f.write_str(self.way_out())
    }
}
