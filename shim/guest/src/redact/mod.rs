//! Command lines, paths and texts without their secrets.
//!
//! # Design
//!
//! A secret is known by its name: by the user's words anywhere in it, which are those of Spark's
//! `spark.redaction.regex` by default (secret, password, token, access.key), without regard to
//! case; or by the names that programs, clouds and web services have for theirs ([`names::PARTS`],
//! [`names::ENDS`]), unless the name ends with a word that says it is something about a secret
//! ([`names::ABOUT`]). Or it is known by where it stands: in an address, behind an option of a program
//! that is known ([`OPTIONS`]). Or by its own form ([`forms::TOKENS`]).
//!
//! Too much is taken away rather than too little: of an argument, all behind the `=` goes.
//!
//! # Limitations
//!
//! A secret without a name, in a place and of a form that nobody knows, stays: `program hunter2`.

mod forms;
mod names;
mod values;

pub use names::REDACTED;

use alloc::vec::Vec;
use forms::{redact_tokens, redact_urls};
use names::{has_word, is_known, is_secret, last_name};
use values::redact_values;

/// Programs with options of one letter for a secret: the beginnings of their names, the option, and
/// whether the secret may be written right behind it.
const OPTIONS: [(&[u8], &[u8], bool); 15] = [
    (b"mysql", b"-p", true),
    (b"mariadb", b"-p", true),
    (b"sshpass", b"-p", true),
    (b"mongo", b"-p", true),
    (b"docker", b"-p", false),
    (b"podman", b"-p", false),
    (b"helm", b"-p", false),
    (b"beeline", b"-p", false),
    (b"redis-cli", b"-a", true),
    (b"ldap", b"-w", true),
    (b"curl", b"-u", true),
    (b"curl", b"--user", false),
    (b"smbclient", b"-U", true),
    (b"sqlcmd", b"-P", true),
    (b"bcp", b"-P", true),
];
/// The arguments, each ended by NUL, with secrets replaced.
pub fn command_line<'a, W: AsRef<str>>(
    arguments: impl Iterator<Item = &'a [u8]>,
    words: &[W],
) -> Vec<u8> {
    let mut line = Vec::new();
    let mut program: &[u8] = b"";
    let mut value_follows = false;
    for (place, argument) in arguments.enumerate() {
        if place == 0 {
            program = argument.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        }
        let is_value = value_follows && !is_option(argument);
        value_follows = false;
        if is_value {
            line.extend_from_slice(REDACTED);
        } else if let Some(option) = option_of(program, argument).filter(|_| place > 0) {
            // The secret is the next argument, or what is behind the option.
            line.extend_from_slice(option);
            match argument.len() > option.len() {
                true => line.extend_from_slice(REDACTED),
                false => value_follows = true,
            }
        } else if program.starts_with(b"sqlplus") && slash_and_at(argument).is_some() {
            let (slash, at) = slash_and_at(argument).unwrap_or_default();
            line.extend_from_slice(&argument[..=slash]);
            line.extend_from_slice(REDACTED);
            line.extend_from_slice(&argument[at..]);
        } else {
            let separator = argument.iter().position(|&byte| byte == b'=' || byte == b':');
            value_follows =
                separator.is_none() && argument.starts_with(b"-") && is_secret(argument, words);
            match is_path(argument).then(|| path(argument, words)).flatten() {
                Some(redacted) => line.extend_from_slice(&redacted),
                None => redact_argument(argument, words, &mut line),
            }
        }
        line.push(0);
    }
    line
}

/// Whether an argument is a path and nothing else, as far as that can be seen.
fn is_path(argument: &[u8]) -> bool {
    argument.starts_with(b"/")
        && !argument.iter().any(|&byte| byte.is_ascii_whitespace() || byte == b'=')
}

/// Whether an argument behind an option is another option, and not its value: `-x`, or two dashes
/// and a letter. A password may well begin with one.
fn is_option(argument: &[u8]) -> bool {
    match argument {
        [b'-', letter] => letter.is_ascii_alphabetic(),
        [b'-', b'-', letter, ..] => letter.is_ascii_alphabetic(),
        _ => false,
    }
}

/// The option for a secret that an argument is or begins with, if the program has it.
fn option_of<'a>(program: &[u8], argument: &'a [u8]) -> Option<&'a [u8]> {
    let (_, option, _) = OPTIONS.iter().find(|(name, option, is_joined)| {
        program.starts_with(name)
            && argument.starts_with(option)
            && (argument.len() == option.len() || *is_joined)
    })?;
    Some(&argument[..option.len()])
}

/// Where user and password, and password and place are parted in `USER/PASSWORD@PLACE`.
fn slash_and_at(argument: &[u8]) -> Option<(usize, usize)> {
    let at = argument.iter().rposition(|&byte| byte == b'@')?;
    let slash = argument[..at].iter().position(|&byte| byte == b'/')?;
    Some((slash, at))
}

fn redact_argument<W: AsRef<str>>(argument: &[u8], words: &[W], line: &mut Vec<u8>) {
    for (at, _) in argument.iter().enumerate().filter(|(_, byte)| **byte == b'=') {
        let name = last_name(&argument[..at]);
        if has_word(&argument[..at], words) || is_known(name) {
            redact_text(&argument[..=at], words, line);
            line.extend_from_slice(REDACTED);
            return;
        }
    }
    redact_text(argument, words, line);
}

/// A path without the values of such parts of it as `token=VALUE`, and without what is below such
/// as `secret/VALUE`; `None` if there is none.
pub fn path<W: AsRef<str>>(path: &[u8], words: &[W]) -> Option<Vec<u8>> {
    let mut redacted = Vec::new();
    let mut is_value = false;
    for (at, part) in path.split(|&byte| byte == b'/').enumerate() {
        if at > 0 {
            redacted.push(b'/');
        }
        if is_value && !part.is_empty() {
            redacted.extend_from_slice(REDACTED);
            is_value = false;
            continue;
        }
        let is_word = |word: &W| part.eq_ignore_ascii_case(word.as_ref().as_bytes());
        let is_name =
            [&b"passwd"[..], b"passphrase", b"apikey", b"api-key", b"api_key", b"credential"]
                .iter()
                .any(|name| part.eq_ignore_ascii_case(name));
        // /etc/passwd is a file's name.
        is_value = words.iter().any(is_word) || is_name;
        redact_argument(part, words, &mut redacted);
    }
    (redacted != path).then_some(redacted)
}

/// A text of any kind (SQL, JSON, a setting's value) without secrets; `None` if there is none.
pub fn text<W: AsRef<str>>(text: &[u8], words: &[W]) -> Option<Vec<u8>> {
    let mut redacted = Vec::new();
    redact_text(text, words, &mut redacted);
    (redacted != text).then_some(redacted)
}

/// Whether a setting of this name is a secret.
pub fn is_secret_name<W: AsRef<str>>(name: &[u8], words: &[W]) -> bool {
    is_secret(name, words)
}

fn redact_text<W: AsRef<str>>(text: &[u8], words: &[W], line: &mut Vec<u8>) {
    let mut named = Vec::with_capacity(text.len());
    redact_values(text, words, &mut named);
    let mut addressed = Vec::with_capacity(named.len());
    redact_urls(&named, &mut addressed);
    redact_tokens(&addressed, line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(line: &[&str]) -> String {
        let words = ["secret", "password", "token", "access.key", "accesskey"];
        let bytes = command_line(line.iter().map(|argument| argument.as_bytes()), &words);
        String::from_utf8(bytes).unwrap().replace('\0', " ")
    }

    #[test]
    fn secrets_go() {
        for (line, expected) in [
            (
                &["java", "-Dspark.ssl.keyPassword=hunter2", "X"][..],
                "java -Dspark.ssl.keyPassword=*********(redacted) X ",
            ),
            (
                &["x", "--conf", "spark.hadoop.fs.s3a.access.key=AKIA"],
                "x --conf spark.hadoop.fs.s3a.access.key=*********(redacted) ",
            ),
            (&["mysql", "--password", "hunter2", "db"], "mysql --password *********(redacted) db "),
            (&["x", "-Da=b", "--TOKEN=t=u"], "x -Da=b --TOKEN=*********(redacted) "),
            (&["x", "-Dopts=-Dsecret=s"], "x -Dopts=-Dsecret=*********(redacted) "),
            (
                &["x", "jdbc:mysql://me:pw@host:3306/db?a=b"],
                "x jdbc:mysql://me:*********(redacted)@host:3306/db?a=b ",
            ),
            (
                &["x", "http://a:b@c,http://d:e@f/"],
                "x http://a:*********(redacted)@c,http://d:*********(redacted)@f/ ",
            ),
            (&["x", "http://a:b@c@d/"], "x http://a:*********(redacted)@d/ "),
        ] {
            assert_eq!(redacted(line), expected);
        }
    }

    #[test]
    fn paths_lose_secret_values() {
        let redacted = |text: &str| path(text.as_bytes(), &["token", "secret"]);
        assert_eq!(redacted("/data/day=1/secret-things"), None);
        assert_eq!(
            redacted("/data/Token=abc/day=1").unwrap(),
            b"/data/Token=*********(redacted)/day=1"
        );
    }

    #[test]
    fn the_rest_stays() {
        for line in [
            &["java", "-Xmx1g", "-Dspark.driver.port=1", "spark://Worker@127.0.0.1:2"][..],
            &["x", "--tokens", "--flag"],
            &["x", "secret"],
        ] {
            assert_eq!(redacted(line), line.join(" ") + " ");
        }
    }
}
