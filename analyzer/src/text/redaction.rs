//! What is stored has no secrets: record files come from libraries of any version and with any settings, event logs
//! from Spark, whose own redaction leaves out command lines and descriptions.

use std::borrow::Cow;
use std::sync::LazyLock;

use guest::redact;

/// The words that settings have by default.
fn words() -> &'static [String] {
    static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| conf::Settings::default().redact);
    &WORDS
}

fn of(redacted: Option<Vec<u8>>, text: &str) -> Cow<'_, str> {
    match redacted {
        Some(redacted) => Cow::Owned(String::from_utf8_lossy(&redacted).into_owned()),
        None => Cow::Borrowed(text),
    }
}

/// A description, a query, a message.
pub fn text(text: &str) -> Cow<'_, str> {
    of(redact::text(text.as_bytes(), words()), text)
}

/// The path of a program or a directory.
pub fn path(path: &str) -> Cow<'_, str> {
    of(redact::path(path.as_bytes(), words()), path)
}

/// Arguments, each ended by NUL.
pub fn command_line(arguments: &[u8]) -> Vec<u8> {
    let ended = arguments.strip_suffix(&[0]).unwrap_or(arguments);
    match ended.is_empty() {
        true => Vec::new(),
        false => redact::command_line(ended.split(|&byte| byte == 0), words()),
    }
}
