//! A short text in place, for what must not allocate.

use core::{ffi::CStr, fmt};

/// At most `N` bytes of text; what is longer is cut.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Text<N> {
    /// This text, as far as it fits.
    pub fn new(text: fmt::Arguments<'_>) -> Text<N> {
        let mut whole = Text { bytes: [0; N], used: 0 };
        // An error says that it was cut.
        let _ = fmt::write(&mut whole, text);
        whole
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// The same with a NUL behind it; empty where there is no room for that.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = N - self.used;
        // No half a character at the end.
        let fits = if text.len() <= room { text.len() } else { text.floor_char_boundary(room) };
        self.bytes[self.used..self.used + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.used += fits;
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
