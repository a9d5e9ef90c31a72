//! Where a store is: a folder, or a database on a server.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mysql::{Opts, OptsBuilder};

use super::StoreError;

/// The store that commands take when none is named: a folder here.
pub const DEFAULT: &str = "sparkanalyzer-store";

/// The store of a command that needs one.
#[derive(Clone, Debug, clap::Args)]
pub struct OfStore {
    /// The store: a folder, made by `ingest`, or a database, mysql://USER@HOST[:PORT]/DATABASE (made by
    /// `analyzer schema init`)
    #[arg(long, visible_alias = "mysql", value_name = "DIR|URL", default_value = DEFAULT)]
    pub store: Address,
}

/// The store of a command that can do without.
#[derive(Clone, Debug, clap::Args)]
pub struct MayBeOfStore {
    /// A store: a folder, or mysql://USER@HOST[:PORT]/DATABASE
    #[arg(long, visible_alias = "mysql", value_name = "DIR|URL")]
    pub store: Option<Address>,
}

/// Schemes of a server's address.
const SCHEMES: [&str; 2] = ["mysql://", "mariadb://"];
/// The environment variable that may hold the password.
const PASSWORD: &str = "SPARKANALYZER_MYSQL_PASSWORD";
/// The parameter of the URL that names a file with the password on its first line.
const PASSWORD_FILE: &str = "password_file";
/// How long to wait for a server that does not answer, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The value of `--store`. It is shown without the password, and so any text is taken here: clap would
/// repeat a wrong one.
#[derive(Clone)]
pub struct Address(OsString);

/// A database on a server.
pub struct Server {
    /// How to connect.
    pub opts: Opts,
    /// How it is called in messages: without user and password.
    pub name: String,
    /// The database.
    pub database: String,
}

impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Address, Infallible> {
        Ok(Address(text.into()))
    }
}

impl From<OsString> for Address {
    fn from(text: OsString) -> Address {
        Address(text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url() {
            None => match self.0.to_str().and_then(|text| text.split_once("://")) {
                // Whatever it is, what stands before an @ may be a password.
                Some((scheme, rest)) if rest.contains('@') => {
                    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
                    write!(f, "{scheme}://{}", place.split('?').next().unwrap_or_default())
                }
                _ => self.folder().display().fmt(f),
            },
            Some(rest) => f.write_str(&shown(rest)),
        }
    }
}

/// Host, port and database of a URL's part after the scheme.
fn shown(rest: &str) -> String {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold an @ that somebody forgot to write as %40.
    let place = path.rsplit_once('@').map_or(path, |(_, place)| place);
    match parameter(query, "socket") {
        None => format!("{}{place}", SCHEMES[0]),
        Some(socket) => format!("{}{place} ({socket})", SCHEMES[0]),
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(unescape(value))
}

/// Decodes `%xx`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Address {
    /// The URL's part after the scheme, if it is a server's address.
    fn url(&self) -> Option<&str> {
        let text = self.0.to_str()?;
        SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))
    }

    /// The folder, if it is no server.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(&self.0)
    }

    /// The folder on this machine, if it is no server.
    ///
    /// # Errors
    /// When it is an address of another kind, which would only make a folder of a strange name.
    pub fn local_folder(&self) -> Result<PathBuf, StoreError> {
        let scheme =
            self.0.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
        let is_scheme = |text: &str| {
            let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:".contains(&byte);
            text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text.bytes().all(is_of_one)
        };
        match scheme.filter(|scheme| is_scheme(scheme)) {
            None => Ok(self.folder()),
            Some(scheme) => Err(StoreError::Address(format!(
                "{self}: {scheme}:// is not served: a store is a folder or mysql://USER@HOST/DATABASE; what Spark \
                 alone reaches (hdfs, s3a, ...) is reported by `report --engine spark`"
            ))),
        }
    }

    /// The server, if it is one.
    ///
    /// # Errors
    /// When the URL is not right, or the file with the password cannot be read.
    pub fn server(&self) -> Result<Option<Server>, StoreError> {
        let Some(rest) = self.url() else { return Ok(None) };
        let name = shown(rest);
        let wrong = |why: &str| StoreError::Address(format!("{name}: {why}"));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let password = match parameter(query, PASSWORD_FILE) {
            Some(file) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| wrong(&format!("{PASSWORD_FILE} {file}: {error}")))?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            None => std::env::var(PASSWORD).ok(),
        };
        let is_ours = |pair: &&str| pair.starts_with(PASSWORD_FILE);
        let others: Vec<_> = query.split('&').filter(|pair| !is_ours(pair)).collect();
        let url = format!("{}{path}?{}", SCHEMES[0], others.join("&"));
        let url = url.trim_end_matches('?');
        let opts = Opts::from_url(url).map_err(|error| {
            let why = match error {
                // Its text may be a part of the password.
                mysql::UrlError::ParseError(_) => "no URL".to_owned(),
                other => other.to_string(),
            };
            wrong(&format!("{why} (mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE)"))
        })?;
        let Some(database) = opts.get_db_name().filter(|name| !name.is_empty()) else {
            return Err(wrong("the database is missing (mysql://USER@HOST/DATABASE)"));
        };
        let database = database.to_owned();
        let mut builder = OptsBuilder::from_opts(opts.clone());
        if opts.get_pass().is_none() {
            builder = builder.pass(password);
        }
        if opts.get_ssl_opts().is_some() {
            // The client would leave TLS for the socket of a server on this machine.
            builder = builder.prefer_socket(false);
        }
        if opts.get_tcp_connect_timeout().is_none() {
            builder = builder.tcp_connect_timeout(Some(CONNECT_TIMEOUT));
        }
        Ok(Some(Server { opts: builder.into(), name, database }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address(text.into())
    }

    #[test]
    fn passwords_are_never_shown() {
        for text in [
            "mysql://me:secret@db.example:3307/runs",
            "mariadb://me:sec@ret@db.example:3307/runs?socket=/run/x",
            "mysql://me:secret@db.example:not-a-port/runs",
            "mysql://me:secret@[/runs",
        ] {
            let server = address(text).server();
            let error = server.err().map(|error| error.to_string()).unwrap_or_default();
            let all = format!("{} {:?} {error}", address(text), address(text));
            assert!(!all.contains("sec") && !all.contains("ret"), "{all}");
            assert!(all.contains("/runs"), "{all}");
        }
    }

    #[test]
    fn other_addresses_are_no_folders() {
        for text in ["postgres://me:secret@db/runs?x=secret", "sqlite:///runs", "s3a://bucket/runs"]
        {
            let error = address(text).local_folder().unwrap_err().to_string();
            let scheme = text.split(':').next().unwrap();
            assert!(error.contains(&format!("{scheme}:// is not served")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for text in ["runs", "/data/a b", "./x:y", "a//b"] {
            assert_eq!(address(text).local_folder().unwrap(), PathBuf::from(text));
        }
    }

    #[test]
    fn folders_and_servers() {
        assert!(address("mysql").server().unwrap().is_none());
        assert_eq!(address("/data/runs").folder(), PathBuf::from("/data/runs"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "from a file\n").unwrap();
        let url = format!("mysql://me@db/runs?password_file={}&socket=%2Frun%2Fx", file.display());
        let server = address(&url).server().unwrap().unwrap();
        assert_eq!(server.opts.get_pass(), Some("from a file"));
        assert_eq!(server.opts.get_socket(), Some("/run/x"));
        assert_eq!(
            (server.name.as_str(), server.database.as_str()),
            ("mysql://db/runs (/run/x)", "runs")
        );
        for (wrong, why) in [
            ("mysql://me@db", "database is missing"),
            ("mysql://me@db/x?nonsense=1", "nonsense"),
            ("mysql://me@db/x?password_file=/nonexistent", "/nonexistent"),
        ] {
            let error = address(wrong).server().err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
