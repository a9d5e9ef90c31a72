//! Command lines and paths without their secrets.
//!
//! The words are those of Spark's `spark.redaction.regex` by default (secret, password, token,
//! access.key), matched without regard to case. Too much is taken away rather than too little: after the
//! first `=` whose left side has a word in it, the rest of the argument goes.

use alloc::vec::Vec;

/// What stands where a secret stood; Spark's own words.
pub const REDACTED: &[u8] = b"*********(redacted)";

/// The arguments, each ended by NUL, with secrets replaced.
pub fn command_line<'a, W: AsRef<str>>(
    arguments: impl Iterator<Item = &'a [u8]>,
    words: &[W],
) -> Vec<u8> {
    let mut line = Vec::new();
    let mut value_follows = false;
    for argument in arguments {
        if value_follows && !argument.starts_with(b"-") {
            line.extend_from_slice(REDACTED);
            value_follows = false;
        } else {
            let equals = argument.iter().position(|&byte| byte == b'=');
            value_follows =
                equals.is_none() && argument.starts_with(b"-") && has_word(argument, words);
            redact_argument(argument, words, &mut line);
        }
        line.push(0);
    }
    line
}

fn redact_argument<W: AsRef<str>>(argument: &[u8], words: &[W], line: &mut Vec<u8>) {
    for (at, _) in argument.iter().enumerate().filter(|(_, byte)| **byte == b'=') {
        if has_word(&argument[..at], words) {
            redact_urls(&argument[..=at], line);
            line.extend_from_slice(REDACTED);
            return;
        }
    }
    redact_urls(argument, line);
}

/// A path without the values of such parts of it as `token=VALUE`; `None` if there is none.
pub fn path<W: AsRef<str>>(path: &[u8], words: &[W]) -> Option<Vec<u8>> {
    let mut redacted = Vec::new();
    for (at, part) in path.split(|&byte| byte == b'/').enumerate() {
        if at > 0 {
            redacted.push(b'/');
        }
        redact_argument(part, words, &mut redacted);
    }
    (redacted != path).then_some(redacted)
}

/// Replaces `password` in each `scheme://user:password@host`.
fn redact_urls(text: &[u8], line: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = find(rest, b"://") {
        let (before, after) = rest.split_at(at + 3);
        line.extend_from_slice(before);
        let end = after
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#' | b',' | b' ' | b'"' | b'\''))
            .unwrap_or(after.len());
        let authority = &after[..end];
        let credentials =
            authority.iter().rposition(|&byte| byte == b'@').map(|at| &authority[..at]);
        let colon = credentials.and_then(|text| text.iter().position(|&byte| byte == b':'));
        rest = match (credentials, colon) {
            (Some(credentials), Some(colon)) => {
                line.extend_from_slice(&credentials[..=colon]);
                line.extend_from_slice(REDACTED);
                &after[credentials.len()..]
            }
            _ => after,
        };
    }
    line.extend_from_slice(rest);
}

fn has_word<W: AsRef<str>>(text: &[u8], words: &[W]) -> bool {
    words.iter().map(|word| word.as_ref().as_bytes()).any(|word| {
        !word.is_empty() && text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
    })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
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
