//! What a server says when it cannot or will not.

use std::fmt;
use std::io;

use crate::console::exit::Exit;
use crate::text::shown;

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
    /// The client gave up on what the server said.
    NotUnderstood,
    /// Another server was connected to, by another rule of whom to believe.
    OtherCa,
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

    /// The server's answer makes no sense.
    pub fn not_understood() -> ServerError {
        ServerError { server: String::new(), kind: Kind::NotUnderstood }
    }

    /// The server's CA cannot be the only one that counts any more.
    pub fn other_ca() -> ServerError {
        ServerError { server: String::new(), kind: Kind::OtherCa }
    }

    /// What the system or TLS says, if it is that.
    fn io(&self) -> Option<&io::Error> {
        match &self.kind {
            Kind::Client(mysql::Error::IoError(error)) => Some(error),
            Kind::Client(mysql::Error::CodecError(error)) => {
                std::error::Error::source(error)?.downcast_ref()
            }
            _ => None,
        }
    }

    /// Whether the server wanted the password in a way that would have given it away.
    fn is_key_wanted(&self) -> bool {
        self.io().is_some_and(|error| error.kind() == io::ErrorKind::NotADirectory)
    }

    fn is_late(&self) -> bool {
        self.io().is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// What TLS does not like.
    fn tls(&self) -> Option<String> {
        match &self.kind {
            Kind::Client(mysql::Error::TlsError(error)) => Some(error.to_string()),
            _ => {
                let inner = self.io()?.get_ref()?.downcast_ref::<rustls::Error>()?;
                Some(inner.to_string())
            }
        }
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
                Kind::OtherCa => "; give each server's URL its root_cert_path",
                _ if self.is_key_wanted() => {
                    "; use TLS (tls=required), or name the server's own key: server_key_path=public_key.pem"
                }
                Kind::Client(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported)) => {
                    "; switch TLS on there, or ask for a connection that others can listen to and answer: \
                     tls=off"
                }
                _ if self.tls().is_some() => {
                    "; name the CA's certificate (root_cert_path=FILE), without a look at the host's name: \
                     tls=verify-ca"
                }
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
                write!(f, "{} (error {})", shown::message(&error.message), error.code)?;
            }
            _ if self.is_key_wanted() => f.write_str(
                "the server wants the password encrypted with a key that it sends itself; it was not sent",
            )?,
            _ if self.is_late() => f.write_str("the server gives no answer")?,
            _ if self.tls().is_some() => write!(f, "TLS: {}", self.tls().unwrap_or_default())?,
            // The client's own words may hold its options.
            Kind::Client(mysql::Error::IoError(error)) => write!(f, "{error}")?,
            Kind::Client(mysql::Error::CodecError(error)) => write!(f, "{error}")?,
            Kind::Client(mysql::Error::DriverError(error)) => write!(f, "{error}")?,
            Kind::Client(_) | Kind::NotUnderstood => {
                write!(f, "the server's answer was not understood")?;
            }
            Kind::OtherCa => write!(f, "a server was connected to that other CAs may vouch for")?,
            Kind::NotClean { table, sent, taken, warnings } => write!(
                f,
                "table {table}: {sent} rows sent, {taken} taken, the server warned: {warnings}"
            )?,
        }
        f.write_str(self.way_out())
    }
}
