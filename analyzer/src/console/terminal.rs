//! When output is coloured, and in which colours.
//!
//! Everything is printed through `anstream`, which drops the escape sequences where they are not
//! wanted.

use std::ffi::OsStr;

use anstyle::{AnsiColor, Style};

/// The values of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// Heads of tables and summaries.
pub const HEADING: Style = Style::new().bold();
/// Failures.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What a reader of the figures should not overlook.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// All is well.
pub const GOOD: Style = AnsiColor::Green.on_default();

impl Color {
    /// Makes this choice hold for all output of the process.
    pub fn apply(self) {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }

    /// The choice for clap's own messages, which are printed before the command line is understood.
    pub fn for_clap(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> clap::ColorChoice {
        let mut value_follows = false;
        for argument in arguments {
            let argument = argument.as_ref();
            let value = match argument.to_str() {
                Some("--") => break,
                Some("--color") => {
                    value_follows = true;
                    continue;
                }
                Some(other) if value_follows => Some(other),
                Some(other) => other.strip_prefix("--color="),
                None => None,
            };
            value_follows = false;
            match value {
                Some("always") => return clap::ColorChoice::Always,
                Some("never") => return clap::ColorChoice::Never,
                _ => {}
            }
        }
        clap::ColorChoice::Auto
    }
}

/// How many columns standard output has, if it is a terminal.
pub fn columns() -> Option<usize> {
    if !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is the caller's own, and the kernel writes nothing but it (ioctl_tty(2)).
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// A number with thousands separators; `-` for what was not counted.
pub fn number(value: Option<u64>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in ms since the epoch as `2026-11-21 15:04:05`, UTC, with ms if there are any.
pub fn utc(ms: i64) -> String {
    let (day, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Years of 400 Gregorian years each; a year begins in March, so that a leap day is its last one.
    let days = day + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (seconds, part) = (of_day / 1000, of_day % 1000);
    let part = if part == 0 { String::new() } else { format!(".{part:03}") };
    format!(
        "{:04}-{month:02}-{date:02} {:02}:{:02}:{:02}{part}",
        400 * era + year + next,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claps_colour_is_found_before_parsing() {
        let choice = |line: &str| Color::for_clap(line.split(' '));
        assert_eq!(choice("analyzer --color never trace"), clap::ColorChoice::Never);
        assert_eq!(choice("analyzer trace --color=always"), clap::ColorChoice::Always);
        assert_eq!(choice("analyzer trace -- ls --color=always"), clap::ColorChoice::Auto);
        assert_eq!(choice("analyzer trace"), clap::ColorChoice::Auto);
    }

    #[test]
    fn thousands_are_separated_and_unknown_is_a_dash() {
        let texts = [0, 7, 999, 1000, 1_234_567].map(|value| number(Some(value)));
        assert_eq!(texts, ["0", "7", "999", "1,000", "1,234,567"]);
        assert_eq!(number(Some(u64::MAX)), "18,446,744,073,709,551,615");
        assert_eq!(number(None), "-");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_795_273_445_678), "2026-11-21 15:04:05.678");
        assert_eq!(utc(-1), "1969-12-31 23:59:59.999");
    }
}
