//! Names of record files: `<prefix>-<process id, 32 hex digits>.<segment, 4 digits>.sar`.

use crate::ProcessId;
use crate::bytes::Cursor;
use crate::write::TooSmall;

/// The extension of record files, without the dot.
pub const EXTENSION: &str = "sar";

/// Bytes that a file name needs besides its prefix, segments up to 2^32 included.
pub const MAX_SUFFIX_BYTES: usize = 1 + 32 + 1 + 10 + 4;

/// Writes the name of a segment's file (no directory, no NUL) and returns its length.
///
/// # Errors
///
/// When the buffer is too small.
pub fn encode(
    buf: &mut [u8],
    prefix: &[u8],
    process: &ProcessId,
    segment: u32,
) -> Result<usize, TooSmall> {
    let mut out = Cursor::new(buf);
    out.push(prefix)?;
    out.push(b"-")?;
    out.push(&hex(process))?;
    out.push(b".")?;
    let mut digits = [b'0'; 10];
    let mut rest = segment;
    let mut first = digits.len();
    while rest > 0 || first > digits.len() - 4 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.push(&digits[first..])?;
    out.push(b".")?;
    out.push(EXTENSION.as_bytes())?;
    Ok(out.position())
}

/// The process id as 32 lower-case hex digits.
pub fn hex(process: &ProcessId) -> [u8; 32] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut out = [0; 32];
    for (at, byte) in process.iter().enumerate() {
        out[2 * at] = DIGITS[usize::from(byte >> 4)];
        out[2 * at + 1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

/// Process id and segment index of a file name; `None` if it is not a record file's.
pub fn parse(name: &str) -> Option<(ProcessId, u32)> {
    let stem = name.strip_suffix(".sar")?;
    let (rest, segment) = stem.rsplit_once('.')?;
    let (_prefix, id) = rest.rsplit_once('-')?;
    if segment.len() < 4 || !segment.bytes().all(|b| b.is_ascii_digit()) || id.len() != 32 {
        return None;
    }
    let mut process = [0; 16];
    for (byte, pair) in process.iter_mut().zip(id.as_bytes().chunks(2)) {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some((process, segment.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let process = *b"\x00\x01\x7f\x80\xff0123456789a";
        for (segment, ending) in
            [(0, ".0000.sar"), (12, ".0012.sar"), (u32::MAX, ".4294967295.sar")]
        {
            let mut buf = [0; 100];
            let len = encode(&mut buf, b"node-1-77", &process, segment).unwrap();
            let name = core::str::from_utf8(&buf[..len]).unwrap();
            assert!(name.starts_with("node-1-77-00017f80ff30") && name.ends_with(ending), "{name}");
            assert_eq!(parse(name), Some((process, segment)));
            assert!(len <= b"node-1-77".len() + MAX_SUFFIX_BYTES);
            assert_eq!(encode(&mut buf[..len - 1], b"node-1-77", &process, segment), Err(TooSmall));
        }
    }

    #[test]
    fn foreign_names() {
        for name in ["", ".sar", "a.sar", "a-b.0000.sar", "events_1_app.zstd"] {
            assert_eq!(parse(name), None);
        }
        assert_eq!(parse("n-1-0123456789abcdef0123456789abcdeF.0000.sar"), None);
        assert_eq!(parse("n-1-0123456789abcdef0123456789abcdef.000.sar"), None);
        assert_eq!(parse("n-é123456789abcdef0123456789abcdef0.0000.sar"), None);
    }
}
