//! Secrets in a text that are known by the name before them.

use super::names::{REDACTED, contains, is_known, is_of_name, is_secret, lower};
use alloc::vec::Vec;

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

/// Replaces the value in `name = value`, `name: value`, `"name": "value"` and `NAME 'value'`, to
/// its end.
pub(super) fn redact_values<W: AsRef<str>>(text: &[u8], words: &[W], line: &mut Vec<u8>) {
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
pub(super) fn is_identified(text: &[u8], end: usize) -> bool {
    const WORDS: &[u8] = b"identified by";
    end >= WORDS.len() && text[end - WORDS.len()..end].eq_ignore_ascii_case(WORDS)
}

/// From where to where the value behind a name stands.
pub(super) fn value_behind(text: &[u8], name: &[u8], end: usize) -> Option<(usize, usize)> {
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
pub(super) fn value_end(text: &[u8], at: usize) -> usize {
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
