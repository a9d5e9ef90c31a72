//! Texts that are kept: somebody else may have made them as long as they like, and each costs memory in every
//! report.

use std::borrow::Cow;

/// Bytes of a text that are kept: names of calls, queries, traces of exceptions.
const MAX_TEXT_BYTES: usize = 4096;
/// Bytes of an id that are kept: a table repeats it in each of its rows.
const MAX_ID_BYTES: usize = 256;

/// A text, clipped with a mark if it is too long.
pub fn text(text: &str) -> Cow<'_, str> {
    match text.len() <= MAX_TEXT_BYTES {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{} ... (clipped)", beginning(text, MAX_TEXT_BYTES))),
    }
}

/// An id, clipped if it is too long; two that differ still do.
pub fn id(text: String) -> String {
    if text.len() <= MAX_ID_BYTES {
        return text;
    }
    format!("{} ... (clipped, {:016x})", beginning(&text, MAX_ID_BYTES), hash(&text))
}

/// What tells long names apart: FNV-1a (RFC 9923), the same in every release.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_clipped_and_long_ids_stay_apart() {
        assert_eq!(text("short"), "short");
        let long = "\u{fc}".repeat(4000);
        let clipped = text(&long);
        assert!(clipped.ends_with(" ... (clipped)") && clipped.len() < 4200, "{}", clipped.len());
        let [one, other] = ["x", "y"].map(|end| id("long".repeat(100) + end));
        assert!(one != other && one.len() < 300, "{one}");
        assert_eq!(id(one.clone()).len(), id(one).len());
        assert_eq!(id("app-1".into()), "app-1");
    }
}
