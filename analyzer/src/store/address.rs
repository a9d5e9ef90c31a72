//! Where a store is: a folder, or a database on a server.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::store::error::StoreError;
use crate::store::server_url::{self, Server};
use crate::text::shown;

/// The store that commands take when none is named: a folder here.
pub const DEFAULT: &str = "sparkanalyzer-store";

/// The store of a command that needs one.
#[derive(Clone, Debug, clap::Args)]
pub struct OfStore {
    /// The store: a folder, made by `ingest`, or a database, mysql://USER@HOST[:PORT]/DATABASE (made by
    /// `analyzer schema init`)
    ///
    /// Beyond this machine the way to a database is TLS, with a certificate for HOST by a public CA, or by the one that
    /// ?root_cert_path=FILE names. ?tls=verify-ca looks at no name, ?tls=off goes without TLS. Others:
    /// password_file, socket, server_key_path, cert_chain_path with priv_key_path.
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
/// What begins a server's address that somebody wrote in another way; a folder is hardly called so.
const LIKE_SCHEMES: [&str; 3] = ["mysql:", "mariadb:", "jdbc:"];

/// The value of `--store`. It is shown without the password, and so any text is taken here: clap would
/// repeat a wrong one.
#[derive(Clone)]
pub struct Address(OsString);

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
            Some(rest) => f.write_str(&server_url::shown(rest)),
            None => match self.like_scheme() {
                Some(scheme) => write!(f, "{scheme}***"),
                None => {
                    let text = self.0.to_string_lossy();
                    // Of an address any parameter may be a secret.
                    let end = text.find("://").and_then(|_| text.find('?'));
                    f.write_str(&shown::message(&text[..end.unwrap_or(text.len())]))
                }
            },
        }
    }
}

impl Address {
    /// The URL's part after the scheme, if it is a server's address.
    fn url(&self) -> Option<&str> {
        SCHEMES.iter().find_map(|scheme| without_prefix(self.0.to_str()?.trim(), scheme))
    }

    /// What begins it, if it is like a server's address but none.
    fn like_scheme(&self) -> Option<&'static str> {
        // What is no UTF-8 may be an address too.
        let text = self.0.to_string_lossy();
        LIKE_SCHEMES.into_iter().find(|scheme| without_prefix(text.trim(), scheme).is_some())
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
        match (self.url(), self.like_scheme()) {
            (Some(rest), _) => server_url::parse(rest).map(Some),
            (None, Some(_)) => Err(StoreError::Address(format!(
                "{self}: no address of a server (mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE)"
            ))),
            (None, None) => Ok(None),
        }
    }
}

/// What is behind the prefix, which may be in capitals.
fn without_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
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
            "MySQL://me:secret@db/runs",
            "  mysql://me:secret@db/runs",
            "mysql://me:se?cret@db/runs",
            "mysql://me:1?secret@db/runs",
            "mysql://me:1?sec=ret@db/runs",
            "mysql://me:se/cret@db/runs",
            "mysql://me:1#secret@db/runs",
            "mysql://me:p@se?cret@db/runs",
            "mysql://me@db/runs?password=secret",
            "mysql://me@db/runs?password=se%zzcret&nonsense=secret",
            "mysql://me:secret",
            "mysql:/me:secret@db/runs",
            "mysql:me:secret@db/runs",
            "jdbc:mysql://me:secret@db/runs",
            "jdbc:mysql://db/runs?user=me&password=secret",
            "s3a://key:secret@bucket/runs",
        ] {
            let server = address(text).server();
            let error = server.err().map(|error| error.to_string()).unwrap_or_default();
            let all = format!("{} {:?} {error}", address(text), address(text));
            assert!(!all.contains("sec") && !all.contains("ret"), "{all}");
            let is_like_one = ["mysql:/m", "mysql:m", "jdbc:", "mysql://me:secret"];
            let names_place =
                !is_like_one.iter().any(|one| text.starts_with(one)) || text.contains("@db.");
            assert!(!names_place || all.contains("/runs"), "{all}");
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
