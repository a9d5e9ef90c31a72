//! Which names are those of secrets.

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

pub(super) fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

/// The name that a text ends with.
pub(super) fn last_name(text: &[u8]) -> &[u8] {
    let begin = text.iter().rposition(|&byte| !is_of_name(byte)).map_or(0, |at| at + 1);
    &text[begin..]
}

pub(super) fn is_secret<W: AsRef<str>>(name: &[u8], words: &[W]) -> bool {
    has_word(name, words) || is_known(name)
}

/// Whether programs, clouds or services call a secret so.
pub(super) fn is_known(name: &[u8]) -> bool {
    let together = lower(name);
    let last = last_word(name);
    if ABOUT.iter().any(|about| last.eq_ignore_ascii_case(about)) {
        return false;
    }
    PARTS.iter().any(|part| contains(&together, part))
        || ENDS.iter().any(|end| last.eq_ignore_ascii_case(end))
}

/// Letters and digits of a name, small.
pub(super) fn lower(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

/// The last word of a name: `pwd` of `db_pwd`, `db.pwd` and `dbPwd`.
pub(super) fn last_word(name: &[u8]) -> &[u8] {
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

pub(super) fn has_word<W: AsRef<str>>(text: &[u8], words: &[W]) -> bool {
    words.iter().map(|word| word.as_ref().as_bytes()).any(|word| {
        !word.is_empty() && text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
    })
}

pub(super) fn contains(text: &[u8], what: &[u8]) -> bool {
    find(text, what).is_some()
}

pub(super) fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}
