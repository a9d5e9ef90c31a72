//! Text from outside in lines for people: one line stays one line, and says nothing to a terminal.

use core::fmt::{self, Write};

/// Bytes that should be text: those that are no UTF-8 are shown as `\xff`.
pub struct Bytes<'a>(pub &'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Passes text on with all that a line or a terminal would take for an order written out: `\n`,
/// `\u{1b}`.
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_order) {
            self.0.write_str(&rest[..at])?;
            let mut left = rest[at..].chars();
            if let Some(order) = left.next() {
                write!(self.0, "{}", order.escape_default())?;
            }
            rest = left.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, other ends of lines, and those that turn the direction of writing.
fn is_order(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn escaped(bytes: &[u8]) -> String {
        let mut text = Escaping(String::new());
        write!(text, "{}", Bytes(bytes)).unwrap();
        text.0
    }

    #[test]
    fn orders_are_written_out_and_text_stays() {
        assert_eq!(escaped("/data/\u{e4}\u{20ac} x".as_bytes()), "/data/\u{e4}\u{20ac} x");
        assert_eq!(escaped(b"a\nb\tc\x1b[2Jd\x7f"), r"a\nb\tc\u{1b}[2Jd\u{7f}");
        assert_eq!(escaped("\u{9b}1m\u{202e}x\u{2028}".as_bytes()), r"\u{9b}1m\u{202e}x\u{2028}");
        assert_eq!(escaped(b"/\xff/\xc3"), r"/\xff/\xc3");
        assert_eq!(escaped(b"\n"), r"\n");
        assert_eq!(escaped(b""), "");
    }
}
