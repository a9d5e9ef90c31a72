//! Texts of records' fields.

use records::file_name;

use crate::text::clip;

/// The process id as text: 32 hexadecimal digits.
pub fn hex(process: &records::ProcessId) -> String {
    file_name::hex(process).iter().map(|&digit| char::from(digit)).collect()
}

/// The same of an id, which every row of a table may repeat: longer ones are clipped.
pub fn known_id(text: &[u8]) -> Option<String> {
    known(text).map(clip::id)
}

/// Text as the system gave it; bytes that are no UTF-8 become U+FFFD. Unknown (empty) is `None`.
pub fn known(text: &[u8]) -> Option<String> {
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}
