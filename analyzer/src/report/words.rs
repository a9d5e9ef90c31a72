//! Keys, figures and paragraphs in words, as all reports write them.

use std::io::{self, Write};

use crate::console::terminal::utc;
use crate::report::figure::{Figure, MILLION, Scale};
use crate::report::key::{Dimension, Key, Part, Span};
use crate::report::rows::{Row, Said};
use crate::text::shown::printable;

/// A table's lines are at most this wide, unless the keys alone need more.
pub const WIDTH: usize = 80;
/// A key is cut to this many characters in a table.
const KEY_WIDTH: usize = 26;
/// A directory to these.
const DIRECTORY_WIDTH: usize = 40;

/// A dimension's value as text; none if it is unknown.
pub fn shown_text(key: &Key, dimension: Dimension) -> Option<String> {
    match dimension {
        Dimension::Process => key.process.clone(),
        Dimension::Time => key.time.map(span_text),
        _ => own_text(key, dimension),
    }
}

fn own_text(key: &Key, dimension: Dimension) -> Option<String> {
    match dimension {
        Dimension::App => key.application.as_ref().map(|name| name.0.clone()),
        Dimension::Node => key.node.as_ref().map(|name| name.0.clone()),
        Dimension::Executor => key.executor.as_ref().map(|name| name.0.clone()),
        Dimension::Process => key.process.as_ref().map(|id| id[..8.min(id.len())].to_owned()),
        Dimension::Thread => key.thread.as_ref().map(|thread| match &thread.name {
            Some(name) => format!("{} {name}", thread.tid),
            None => thread.tid.to_string(),
        }),
        Dimension::Directory => key.directory.clone(),
        Dimension::Stage if key.part == Part::Outside => Some("outside".into()),
        Dimension::Stage => key.stage.map(|stage| stage_label(stage.0, stage.1)),
        _ if dimension.is_of_tasks() && key.part == Part::Outside => Some(String::new()),
        Dimension::Time => None,
        Dimension::Query => key.query.map(|query| query.to_string()),
        Dimension::Job => key.job.map(|job| job.to_string()),
        Dimension::Task => key.task.map(|task| task.to_string()),
    }
}

/// A dimension's value as text for a table.
pub fn shown(key: &Key, dimension: Dimension) -> String {
    if let (Dimension::Time, Some(span)) = (dimension, key.time) {
        return span_text(span);
    }
    let name = own_text(key, dimension);
    let name = printable(&name.unwrap_or_else(|| "-".into()));
    let width = if dimension == Dimension::Directory { DIRECTORY_WIDTH } else { KEY_WIDTH };
    if name.chars().count() <= width {
        return name;
    }
    // Ids and paths differ at their ends.
    let skip = name.chars().count() - width + 1;
    format!("~{}", name.chars().skip(skip).collect::<String>())
}

/// When a bucket begins, and how long several are together.
pub fn span_text(span: Span) -> String {
    let begin = utc(span.from_ms);
    match span.until_ms - span.from_ms {
        _ if span.is_bucket => begin,
        ms if ms % 1000 == 0 => format!("{begin} +{}s", ms / 1000),
        ms => format!("{begin} +{ms}ms"),
    }
}

/// `3`, or `3.1` for its second attempt.
pub fn stage_text(stage: i64, attempt: Option<i64>) -> String {
    match attempt {
        None | Some(0) => stage.to_string(),
        Some(attempt) => format!("{stage}.{attempt}"),
    }
}

/// The same for a row: of an unknown attempt there is another row than of the first one.
pub fn stage_label(stage: i64, attempt: Option<i64>) -> String {
    match attempt {
        None => format!("{stage}.?"),
        _ => stage_text(stage, attempt),
    }
}

/// Three or four significant digits with a unit's prefix.
pub fn human(value: u64, scale: Scale) -> String {
    let scaled = |value: f64, units: &[&str]| {
        let mut value = value;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < units.len() {
            value /= 1000.0;
            unit += 1;
        }
        let decimals = if unit == 0 || value >= 99.95 {
            0
        } else if value >= 9.995 {
            1
        } else {
            2
        };
        format!("{value:.decimals$}{}", units[unit])
    };
    let value_f = value as f64;
    match scale {
        Scale::Count if value < 10_000 => value.to_string(),
        Scale::Count => scaled(value_f, &["", "k", "M", "G", "T", "P", "E"]),
        Scale::Bytes => scaled(value_f, &["B", "kB", "MB", "GB", "TB", "PB", "EB"]),
        Scale::Nanoseconds => scaled(value_f, &["ns", "us", "ms", "s", "ks", "Ms"]),
        Scale::Milliseconds => scaled(value_f, &["ms", "s", "ks", "Ms"]),
        Scale::Moment => utc(i64::try_from(value).unwrap_or(i64::MAX)),
        Scale::Millionths => {
            let value = value_f / MILLION as f64;
            match value {
                0.0 => "0".into(),
                _ if value < 0.01 => format!("{value:.1e}"),
                _ if value < 999.5 => {
                    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
                    format!("{value:.decimals$}")
                }
                _ => scaled(value, &["", "k", "M", "G", "T", "P", "E"]),
            }
        }
    }
}

/// A figure of a row as text for a table.
pub fn cell(row: &Row, figure: Figure) -> String {
    match row.said(figure) {
        Said::Exactly(value) => human(value, figure.scale()),
        Said::AtLeast(value) => format!("{}+", human(value, figure.scale())),
        Said::Unknown => "-".into(),
    }
}

/// Prints text in lines of at most [`WIDTH`] characters, the later ones indented.
pub fn wrapped(out: &mut impl Write, prefix: &str, text: &str) -> io::Result<()> {
    wrapped_to(out, prefix, text, WIDTH)
}

/// Prints text in lines of at most so many characters, the later ones indented.
pub fn wrapped_to(out: &mut impl Write, prefix: &str, text: &str, width: usize) -> io::Result<()> {
    let mut line = prefix.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            writeln!(out, "{line}")?;
            line = " ".repeat(6);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let cases = [
            (0, Scale::Count, "0"),
            (9_999, Scale::Count, "9999"),
            (10_000, Scale::Count, "10.0k"),
            (999_499, Scale::Count, "999k"),
            (999_500, Scale::Count, "1.00M"),
            (u64::MAX, Scale::Count, "18.4E"),
            (999, Scale::Bytes, "999B"),
            (1_234, Scale::Bytes, "1.23kB"),
            (12_345_678, Scale::Bytes, "12.3MB"),
            (1_500_000_000, Scale::Nanoseconds, "1.50s"),
            (99_960, Scale::Milliseconds, "100s"),
        ];
        for (value, scale, expected) in cases {
            assert_eq!(human(value, scale), expected);
        }
    }

    #[test]
    fn long_text_is_wrapped() {
        let mut out = Vec::new();
        wrapped(&mut out, "note: ", &"word ".repeat(40)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.len() <= WIDTH));
    }
}
