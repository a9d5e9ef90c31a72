//! The address of a database on a server: `mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?...]`, and how safe
//! the way there must be.
//!
//! # Design
//!
//! Whoever answers at an address learns the password, or enough to guess it, unless TLS with a verified
//! certificate says who it is. So beyond this machine there is no connection without, except by `tls=off`; and
//! there is no TLS without a look at the certificate, which would protect from listeners alone.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use mysql::{Opts, OptsBuilder, SslOpts};

use crate::console::terminal::WARNING;
use crate::store::error::StoreError;
use crate::text::shown;

/// The environment variable that may hold the password.
const PASSWORD: &str = "SPARKANALYZER_MYSQL_PASSWORD";
/// The parameter of the URL that names a file with the password on its first line.
const PASSWORD_FILE: &str = "password_file";
/// Bytes of it that are looked at.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;
/// How long to wait for a server that does not answer, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A file that cannot be: with it in the place of the server's public key the client fails where it would ask
/// the server, whoever that is, for the key and encrypt the password with that.
pub const NO_PUBLIC_KEY: &str = "/dev/null/no-public-key";

/// Parameters that are the client's own.
const PASSED_ON: [&str; 16] = [
    "socket",
    "user",
    "password",
    "root_cert_path",
    "cert_chain_path",
    "priv_key_path",
    "server_key_path",
    "cipher_suites",
    "compress",
    "max_allowed_packet",
    "stmt_cache_size",
    "tcp_connect_timeout_ms",
    "tcp_keepalive_time_ms",
    "tcp_keepalive_probe_interval_secs",
    "tcp_keepalive_probe_count",
    "tcp_user_timeout_ms",
];
/// Sends the password as it is: some servers hand it on to others.
const CLEARTEXT: &str = "enable_cleartext_plugin";

/// The way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    /// The certificate is valid for the host's name.
    Full,
    /// The certificate is of the CA that is named.
    Ca,
    /// None.
    Off,
}

impl Tls {
    /// The value of `tls`, or of the names that other clients have for it.
    fn parse(name: &str, value: &str) -> Result<Tls, String> {
        let value = value.to_ascii_lowercase().replace('_', "-");
        match (name, value.as_str()) {
            ("require_ssl", "true" | "1") => Ok(Tls::Full),
            (_, "required" | "verify-full" | "verify-identity") => Ok(Tls::Full),
            (_, "verify-ca") => Ok(Tls::Ca),
            (_, "off" | "disabled") => Ok(Tls::Off),
            (_, "preferred" | "allow") => Err(format!(
                "{name}={value}: who may leave TLS out protects nobody (tls=required, or tls=off)"
            )),
            _ => Err(format!("{name}: required, verify-ca, verify-full or off")),
        }
    }
}

/// What a URL says, taken apart.
struct Parts {
    opts: Opts,
    tls: Option<Tls>,
    is_cleartext: bool,
    password_file: Option<String>,
}

/// Host, port and database of a URL's part after the scheme, without any part of user and password, whatever is
/// wrong with it.
pub fn shown(rest: &str) -> String {
    let place = match Parts::read(rest) {
        Ok(parts) => place(&parts.opts),
        Err(_) => place_in(rest),
    };
    format!("mysql://{place}")
}

fn place(opts: &Opts) -> String {
    let port = opts.get_tcp_port();
    let port = if port == 3306 { String::new() } else { format!(":{port}") };
    let socket = opts.get_socket().map(|socket| format!(" ({socket})")).unwrap_or_default();
    let database = opts.get_db_name().unwrap_or_default();
    format!("{}{port}/{database}{socket}", opts.get_ip_or_hostname())
}

/// A password may hold any character that somebody forgot to write as %xx: what is behind the last @ is the place.
fn place_in(rest: &str) -> String {
    let place = rest.rsplit_once('@').map(|(_, place)| place);
    // Without any, what is behind a colon may be a password.
    let place = place.unwrap_or_else(|| rest.split([':', '?']).next().unwrap_or_default());
    place.split('?').next().unwrap_or_default().to_owned()
}

impl Parts {
    /// Takes it apart.
    fn read(rest: &str) -> Result<Parts, String> {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if rest.contains('@') && !authority.contains('@') {
            return Err("no URL: in user, password and parameters / ? # @ are written \
                        %2F %3F %23 %40 (mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE)"
                .into());
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut tls, mut is_cleartext, mut password_file) = (None, false, None);
        let mut passed_on = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                PASSWORD_FILE => password_file = Some(unescape(value)),
                "tls" | "ssl-mode" | "ssl_mode" | "sslMode" | "require_ssl" => {
                    tls = Some(Tls::parse(name, value)?);
                }
                "ssl-ca" | "ssl_ca" => passed_on.push(format!("root_cert_path={value}")),
                CLEARTEXT => is_cleartext = value == "true",
                _ if PASSED_ON.contains(&name) => passed_on.push(pair.to_owned()),
                "danger_accept_invalid_certs" | "danger_skip_domain_validation" => {
                    return Err(format!(
                        "{name}: certificates are verified (tls=verify-ca, tls=off)"
                    ));
                }
                _ => return Err(unknown(name)),
            }
        }
        let url = format!("mysql://{path}?{}", passed_on.join("&"));
        let opts = Opts::from_url(url.trim_end_matches('?')).map_err(|error| match error {
            mysql::UrlError::InvalidValue(name, _) => format!("{name}: no value for it"),
            mysql::UrlError::UnknownParameter(name) => unknown(&name),
            // Its text may be a part of the password.
            _ => "no URL (mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE)".to_owned(),
        })?;
        Ok(Parts { opts, tls, is_cleartext, password_file })
    }

    /// The way to the server.
    fn way(&self) -> Result<Option<SslOpts>, String> {
        let named = self.opts.get_ssl_opts();
        if self.opts.get_socket().is_some() {
            return match self.tls {
                None | Some(Tls::Off) => Ok(None),
                Some(_) => Err("a socket has no TLS: leave out socket or tls".into()),
            };
        }
        let tls = self.tls.unwrap_or(match named.is_none() && self.opts.addr_is_loopback() {
            true => Tls::Off,
            false => Tls::Full,
        });
        match tls {
            Tls::Off if named.is_some() => {
                Err("tls=off, and certificates for it: leave out one".into())
            }
            Tls::Off => Ok(None),
            Tls::Full => Ok(Some(named.cloned().unwrap_or_default())),
            Tls::Ca => match named.filter(|named| named.root_cert_path().is_some()) {
                Some(named) => Ok(Some(named.clone().with_danger_skip_domain_validation(true))),
                None => Err("tls=verify-ca needs the CA's certificate: root_cert_path=FILE".into()),
            },
        }
    }
}

/// A name that is none may be a part of a password.
fn unknown(name: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match name.len() <= 40 && name.bytes().all(is_word) {
        true => format!("unknown parameter {name}"),
        false => "unknown parameter (a password's ? is written %3F)".into(),
    }
}

/// A database on a server.
pub struct Server {
    /// How to connect.
    pub opts: Opts,
    /// How it is called in messages: without user and password.
    pub name: String,
    /// The database.
    pub database: String,
    /// Whether the URL names a CA: then it is the only one that vouches for the server.
    pub own_ca: bool,
}

/// How to reach the server, from the URL's part after the scheme.
///
/// # Errors
/// When the URL is not right, or the file with the password cannot be read.
pub fn parse(rest: &str) -> Result<Server, StoreError> {
    let name = shown(rest);
    let wrong = |why: &str| StoreError::Address(format!("{name}: {why}"));
    let parts = Parts::read(rest).map_err(|why| wrong(&why))?;
    let way = parts.way().map_err(|why| wrong(&why))?;
    let Some(database) = parts.opts.get_db_name().filter(|name| !name.is_empty()) else {
        return Err(wrong("the database is missing (mysql://USER@HOST/DATABASE)"));
    };
    let database = database.to_owned();
    let mut builder = OptsBuilder::from_opts(parts.opts.clone())
        // A server could name any socket, and whoever listens there would be given the password.
        .prefer_socket(false)
        .ssl_opts(way.clone());
    if parts.opts.get_pass().is_none() {
        let password = match &parts.password_file {
            Some(file) => Some(
                password_in(file, &name)
                    .map_err(|error| wrong(&format!("{PASSWORD_FILE} {file}: {error}")))?,
            ),
            None => std::env::var(PASSWORD).ok(),
        };
        builder = builder.pass(password);
    }
    if parts.is_cleartext {
        if way.is_none() && parts.opts.get_socket().is_none() {
            return Err(wrong("enable_cleartext_plugin=true needs TLS (tls=required) or a socket"));
        }
        builder = builder.enable_cleartext_plugin(true);
    }
    if parts.opts.get_server_key_path().is_none() {
        builder = builder.server_key_path(Some(PathBuf::from(NO_PUBLIC_KEY)));
    }
    if parts.opts.get_tcp_connect_timeout().is_none() {
        builder = builder.tcp_connect_timeout(Some(CONNECT_TIMEOUT));
    }
    let own_ca = way.as_ref().is_some_and(|way| way.root_cert_path().is_some());
    Ok(Server { opts: builder.into(), name, database, own_ca })
}

/// The password in a file; a pipe of a shell will do. Warns if others may read it.
fn password_in(path: &str, server: &str) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.mode() & 0o007 != 0 {
        let message = format!(
            "{server}: {path} has mode {:04o}: others can read the password (chmod o= {path})",
            metadata.mode() & 0o7777
        );
        let message = shown::message(&message);
        anstream::eprintln!("{WARNING}warning:{WARNING:#} {message}");
    }
    let mut text = String::new();
    file.take(MAX_PASSWORD_BYTES).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn server(rest: &str) -> Result<Server, String> {
        parse(rest).map_err(|error| error.to_string())
    }

    #[test]
    fn beyond_this_machine_the_way_is_safe_unless_said_otherwise() {
        let tls = |rest: &str| server(rest).unwrap().opts.get_ssl_opts().cloned();
        for rest in [
            "me@db.example/x",
            "me@192.0.2.1/x",
            "me@0.0.0.0/x",
            "me@[2001:db8::1]/x",
            "me@localhost.example/x",
            "me@db/x?tls=required",
            "me@db/x?ssl-mode=REQUIRED",
            "me@db/x?require_ssl=true",
            "me@db/x?tls=verify-full&ssl-ca=/ca.pem",
            "me@localhost/x?tls=required",
            "me@127.0.0.1/x?root_cert_path=/ca.pem",
        ] {
            let tls = tls(rest).expect(rest);
            assert!(!tls.accept_invalid_certs() && !tls.skip_domain_validation(), "{rest}");
        }
        for rest in [
            "me@localhost/x",
            "me@127.0.0.2/x",
            "me@[::1]/x",
            "me@db/x?socket=/run/s",
            "me@db/x?tls=off",
            "me@db/x?ssl-mode=disabled",
        ] {
            assert_eq!(tls(rest), None, "{rest}");
        }
        let of_ca = tls("me@db/x?tls=verify-ca&root_cert_path=/ca.pem").unwrap();
        assert!(of_ca.skip_domain_validation() && !of_ca.accept_invalid_certs());
        for (rest, why) in [
            ("me@db/x?tls=verify-ca", "root_cert_path"),
            ("me@db/x?tls=maybe", "verify-full"),
            ("me@db/x?ssl-mode=preferred", "protects nobody"),
            ("me@db/x?tls=off&root_cert_path=/ca", "leave out one"),
            ("me@db/x?tls=required&socket=/s", "no TLS"),
            ("me@db/x?danger_accept_invalid_certs=true", "are verified"),
            ("me@db/x?tls=off&enable_cleartext_plugin=true", "needs TLS"),
            ("me@db/x?host=other", "unknown parameter host"),
            ("me@db/x?secure_auth=false", "unknown parameter"),
            ("me@db/x?prefer_socket=true", "unknown parameter"),
        ] {
            let error = server(rest).err().unwrap();
            assert!(error.contains(why), "{rest}: {error}");
        }
    }

    #[test]
    fn no_key_is_taken_from_the_server_and_no_socket() {
        for rest in ["me@db/x?tls=off", "me@localhost/x", "me@db/x", "me@db/x?socket=/s"] {
            let opts = server(rest).unwrap().opts;
            assert_eq!(opts.get_server_key_path(), Some(Path::new(NO_PUBLIC_KEY)));
            assert!(!opts.get_prefer_socket());
        }
        let opts = server("me@localhost/x?server_key_path=/key.pem").unwrap().opts;
        assert_eq!(opts.get_server_key_path(), Some(Path::new("/key.pem")));
    }
}
