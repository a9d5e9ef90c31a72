//! Lengths of time on the command line.

use std::time::Duration;

/// Units, with their length in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// The duration that a text like `90d` says.
///
/// # Errors
/// When it is none, with what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let length = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, length)| *length);
    let ms = length.zip(number.parse::<u64>().ok()).and_then(|(one, count)| one.checked_mul(count));
    match ms {
        Some(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        Some(_) => Err("expected more than no time, such as 10s".into()),
        _ => Err("expected a number and ms, s, m, h, d or w, such as 10s or 90d".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for wrong in ["", "10", "s", "1y", "-1s", "0s", "1.5h", "99999999999999999999d"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("0s").unwrap_err().contains("more than no time"));
    }
}
