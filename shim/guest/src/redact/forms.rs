//! Secrets in a text that are known by where they stand in an address, or by their own form.

use super::names::{REDACTED, find};
use alloc::vec::Vec;

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

/// Replaces `password` in each `scheme://user:password@host` and in Oracle's
/// `thin:user/password@host`, and a user that is a token.
pub(super) fn redact_urls(text: &[u8], line: &mut Vec<u8>) {
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
pub(super) fn is_like_token(name: &[u8]) -> bool {
    name.len() >= 20
        && name.iter().any(u8::is_ascii_digit)
        && name.iter().any(u8::is_ascii_alphabetic)
}

/// Replaces what has the form of a token, and private keys.
pub(super) fn redact_tokens(text: &[u8], line: &mut Vec<u8>) {
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
