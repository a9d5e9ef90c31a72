//! Command lines, paths and texts without their secrets.
//!
//! # Design
//!
//! A secret is known by its name: by the user's words anywhere in it, which are those of Spark's
//! `spark.redaction.regex` by default (secret, password, token, access.key), without regard to
//! case; or by the names that programs, clouds and web services have for theirs ([`PARTS`],
//! [`ENDS`]), unless the name ends with a word that says it is something about a secret
//! ([`ABOUT`]). Or it is known by where it stands: in an address, behind an option of a program
//! that is known ([`OPTIONS`]). Or by its own form ([`TOKENS`]).
//!
//! Too much is taken away rather than too little: of an argument, all behind the `=` goes.
//!
//! # Limitations
//!
//! A secret without a name, in a place and of a form that nobody knows, stays: `program hunter2`.

use alloc::vec::Vec;

/// What stands where a secret stood; Spark's own words.
pub const REDACTED: &[u8] = b"*********(redacted)";

/// Names of secrets, written together and in small letters; a name that has one in it is a
/// secret's.
const PARTS: [&[u8]; 21] = [
    b"passwd",
    b"passphrase",
    b"passcode",
    b"apikey",
    b"accesskey",
    b"accountkey",
    b"authkey",
    b"clientkey",
    b"encryptionkey",
    b"licensekey",
    b"masterkey",
    b"privatekey",
    b"sharedkey",
    b"signingkey",
    b"storagekey",
    b"subscriptionkey",
    b"credential",
    b"bearer",
    b"authorization",
    b"sessionid",
    b"connectionstring",
];
/// Names of secrets that are too short to be looked for in others: the last word of a name.
const ENDS: [&[u8]; 13] = [
    b"pwd",
    b"pass",
    b"pw",
    b"sig",
    b"signature",
    b"sas",
    b"jwt",
    b"pat",
    b"psk",
    b"otp",
    b"pin",
    b"cookie",
    b"userpass",
];
/// The last word of a name that is about a secret and is none.
const ABOUT: [&[u8]; 34] = [
    b"file",
    b"files",
    b"path",
    b"dir",
    b"directory",
    b"location",
    b"url",
    b"uri",
    b"endpoint",
    b"enabled",
    b"disabled",
    b"required",
    b"provider",
    b"providers",
    b"class",
    b"impl",
    b"type",
    b"format",
    b"algorithm",
    b"method",
    b"mode",
    b"version",
    b"length",
    b"size",
    b"bits",
    b"count",
    b"timeout",
    b"interval",
    b"ttl",
    b"expiry",
    b"name",
    b"regex",
    b"policy",
    b"cache",
];
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
/// How secrets begin that are known by their form; how many characters of a token follow at least.
const TOKENS: [(&[u8], usize); 34] = [
    (b"AKIA", 16),
    (b"ASIA", 16),
    (b"ghp_", 20),
    (b"gho_", 20),
    (b"ghu_", 20),
    (b"ghs_", 20),
    (b"ghr_", 20),
    (b"github_pat_", 20),
    (b"glpat-", 16),
    (b"gldt-", 16),
    (b"glsa_", 20),
    (b"xoxb-", 16),
    (b"xoxp-", 16),
    (b"xoxa-", 16),
    (b"xoxr-", 16),
    (b"xoxs-", 16),
    (b"xapp-", 16),
    (b"AIza", 30),
    (b"ya29.", 16),
    (b"GOCSPX-", 16),
    (b"sk_live_", 16),
    (b"sk_test_", 16),
    (b"rk_live_", 16),
    (b"whsec_", 16),
    (b"sk-", 24),
    (b"hf_", 24),
    (b"dapi", 32),
    (b"dop_v1_", 32),
    (b"npm_", 32),
    (b"pypi-", 32),
    (b"shpat_", 24),
    (b"hvs.", 20),
    (b"SG.", 32),
    (b"eyJ", 32),
];
/// Words in front of what follows them in a header: `Authorization: Bearer ...`.
const WAYS: [&[u8]; 8] = [
    b"bearer",
    b"basic",
    b"digest",
    b"token",
    b"negotiate",
    b"apikey",
    b"sharedkey",
    b"aws4-hmac-sha256",
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

/// Replaces the value in `name = value`, `name: value`, `"name": "value"` and `NAME 'value'`, to
/// its end.
fn redact_values<W: AsRef<str>>(text: &[u8], words: &[W], line: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        if !is_of_name(text[at]) {
            line.push(text[at]);
            at += 1;
            continue;
        }
        let end =
            text[at..].iter().position(|&byte| !is_of_name(byte)).map_or(text.len(), |to| at + to);
        let name = &text[at..end];
        line.extend_from_slice(name);
        at = end;
        let Some((from, to)) = value_behind(text, name, end)
            .filter(|_| is_secret(name, words) || is_identified(text, end))
        else {
            continue;
        };
        line.extend_from_slice(&text[end..from]);
        // It may have been redacted before.
        line.extend_from_slice(if from < to { REDACTED } else { b"" });
        at = to;
    }
}

/// Whether a name ends there that SQL has for a password: `IDENTIFIED BY`.
fn is_identified(text: &[u8], end: usize) -> bool {
    const WORDS: &[u8] = b"identified by";
    end >= WORDS.len() && text[end - WORDS.len()..end].eq_ignore_ascii_case(WORDS)
}

/// From where to where the value behind a name stands.
fn value_behind(text: &[u8], name: &[u8], end: usize) -> Option<(usize, usize)> {
    let skip = |mut at: usize, what: &[u8]| {
        while text.get(at).is_some_and(|byte| what.contains(byte)) {
            at += 1;
        }
        at
    };
    let is_quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b'`');
    let closed = skip(end, b"\\\"'`");
    let mut at = skip(closed, b" \t");
    let separator = *text.get(at)?;
    match separator {
        b'=' => at = skip(at + 1, b"=> \t"),
        b':' => at = skip(at + 1, b" \t"),
        // OPTIONS (password 'x')
        _ if is_quote(&separator) && at > end => {}
        _ => return None,
    }
    // A list of folders, an address, a drive.
    if separator == b':' && (text.get(at) == Some(&b'/') || text.get(at) == Some(&b':')) {
        return None;
    }
    let quoted = skip(at, b"\\");
    if let Some(quote) = text.get(quoted).copied().filter(|byte| is_quote(byte)) {
        let from = quoted + 1;
        let mut to = from;
        // A doubled quote, or one behind a backslash, is of the value, unless the first one had a
        // backslash too.
        while let Some(&byte) = text.get(to) {
            if byte == quote {
                if text.get(to + 1) != Some(&quote) || quoted > at {
                    break;
                }
                to += 1;
            } else if byte == b'\\' {
                if quoted > at && text.get(to + 1) == Some(&quote) {
                    break;
                }
                to += 1;
            }
            to += 1;
        }
        return Some((from, to.min(text.len())));
    }
    // What is inside has names of its own.
    if text.get(at).is_some_and(|byte| matches!(byte, b'(' | b'[' | b'{')) {
        return None;
    }
    let is_header = is_known(name) && separator == b':' || contains(&lower(name), b"authorization");
    let mut to = value_end(text, at);
    // Authorization: Bearer abc
    if is_header && WAYS.iter().any(|way| text[at..to].eq_ignore_ascii_case(way)) {
        at = skip(to, b" \t");
        to = text[at..]
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r' | b'"' | b'\''))
            .map_or(text.len(), |length| at + length);
    }
    (at < to).then_some((at, to))
}

/// Where a value without quotes ends.
fn value_end(text: &[u8], at: usize) -> usize {
    let is_end = |byte: &u8| {
        matches!(
            byte,
            b' ' | b'\t'
                | b'\n'
                | b'\r'
                | b'&'
                | b';'
                | b','
                | b'"'
                | b'\''
                | b')'
                | b'}'
                | b']'
                | b'#'
        )
    };
    text[at..].iter().position(is_end).map_or(text.len(), |length| at + length)
}

/// Replaces `password` in each `scheme://user:password@host` and in Oracle's
/// `thin:user/password@host`, and a user that is a token.
fn redact_urls(text: &[u8], line: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let next = [&b"://"[..], b"thin:", b"oci:"]
            .iter()
            .filter_map(|mark| Some((find(rest, mark)?, mark.len())))
            .min();
        let Some((at, length)) = next else { break };
        let (before, after) = rest.split_at(at + length);
        line.extend_from_slice(before);
        rest = after;
        let is_thin = !before.ends_with(b"://");
        let end = after
            .iter()
            .position(|byte| matches!(byte, b',' | b' ' | b'"' | b'\'' | b'\n'))
            .unwrap_or(after.len());
        let authority = after[..end].iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let authority = &after[..authority.unwrap_or(end)];
        let at_sign = |text: &[u8]| text.iter().rposition(|&byte| byte == b'@');
        // A password may hold what ends an authority: then there is no @ in front of it, and no
        // port.
        let is_port = authority
            .iter()
            .rposition(|&byte| byte == b':')
            .is_none_or(|colon| authority[colon + 1..].iter().all(u8::is_ascii_digit));
        let credentials = match at_sign(authority) {
            Some(at) => Some(&after[..at]),
            None if is_thin || !is_port => at_sign(&after[..end]).map(|at| &after[..at]),
            None => None,
        };
        let Some(credentials) = credentials else { continue };
        let parted = credentials.iter().position(|&byte| byte == if is_thin { b'/' } else { b':' });
        match parted {
            Some(parted) => {
                line.extend_from_slice(&credentials[..=parted]);
                line.extend_from_slice(REDACTED);
                rest = &after[credentials.len()..];
            }
            None if !is_thin && is_like_token(credentials) => {
                line.extend_from_slice(REDACTED);
                rest = &after[credentials.len()..];
            }
            None => {}
        }
    }
    line.extend_from_slice(rest);
}

/// Whether a user's name is none: long, of letters and digits.
fn is_like_token(name: &[u8]) -> bool {
    name.len() >= 20
        && name.iter().any(u8::is_ascii_digit)
        && name.iter().any(u8::is_ascii_alphabetic)
}

/// Replaces what has the form of a token, and private keys.
fn redact_tokens(text: &[u8], line: &mut Vec<u8>) {
    let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(b"-----BEGIN ") && find(rest, b"PRIVATE KEY").is_some_and(|at| at < 40)
        {
            line.extend_from_slice(REDACTED);
            at += find(rest, b"-----END ").map_or(rest.len(), |end| {
                rest[end + 9..]
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .map_or(rest.len(), |to| end + 9 + to)
            });
            continue;
        }
        if !is_of_token(&text[at]) {
            line.push(text[at]);
            at += 1;
            continue;
        }
        let end = rest.iter().position(|byte| !is_of_token(byte)).unwrap_or(rest.len());
        let word = &rest[..end];
        let is_token = TOKENS.iter().any(|(begin, length)| {
            // eyJ... is JSON of any kind; a JWT has three parts.
            let is_jwt = *begin != b"eyJ" || word.iter().filter(|&&byte| byte == b'.').count() == 2;
            word.starts_with(begin)
                && is_jwt
                && word.len() - begin.len() >= *length
                && word[begin.len()..].iter().any(u8::is_ascii_alphanumeric)
                && word.iter().any(u8::is_ascii_digit)
        });
        line.extend_from_slice(if is_token { REDACTED } else { word });
        at += end;
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

/// The name that a text ends with.
fn last_name(text: &[u8]) -> &[u8] {
    let begin = text.iter().rposition(|&byte| !is_of_name(byte)).map_or(0, |at| at + 1);
    &text[begin..]
}

fn is_secret<W: AsRef<str>>(name: &[u8], words: &[W]) -> bool {
    has_word(name, words) || is_known(name)
}

/// Whether programs, clouds or services call a secret so.
fn is_known(name: &[u8]) -> bool {
    let together = lower(name);
    let last = last_word(name);
    if ABOUT.iter().any(|about| last.eq_ignore_ascii_case(about)) {
        return false;
    }
    PARTS.iter().any(|part| contains(&together, part))
        || ENDS.iter().any(|end| last.eq_ignore_ascii_case(end))
}

/// Letters and digits of a name, small.
fn lower(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

/// The last word of a name: `pwd` of `db_pwd`, `db.pwd` and `dbPwd`.
fn last_word(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(u8::is_ascii_alphanumeric).map_or(0, |at| at + 1);
    let name = &name[..end];
    let mut begin = name.len();
    while begin > 0 {
        let (one, after) = (name[begin - 1], name.get(begin));
        let is_border = !one.is_ascii_alphanumeric()
            || after.is_some_and(u8::is_ascii_uppercase) && one.is_ascii_lowercase();
        if is_border {
            break;
        }
        begin -= 1;
    }
    &name[begin..]
}

fn has_word<W: AsRef<str>>(text: &[u8], words: &[W]) -> bool {
    words.iter().map(|word| word.as_ref().as_bytes()).any(|word| {
        !word.is_empty() && text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
    })
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    find(text, what).is_some()
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
