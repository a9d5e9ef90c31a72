//! A report as CSV.

use std::io::{self, Write};

use serde_json::Value;

use crate::report::figure::Figure;
use crate::report::key::{Key, Part, Place};
use crate::report::print::Report;
use crate::report::rows::Said;

impl Report<'_> {
    /// Prints CSV (RFC 4180): unknown is an empty field; `at_least` names the lower bounds.
    pub fn csv(&self, out: &mut impl Write, figures: &[Figure]) -> io::Result<()> {
        let probe = Key::new(self.by, &Place::default(), Part::Tasks);
        let mut head: Vec<_> =
            self.keys(&probe).into_iter().map(|(name, _)| name.to_owned()).collect();
        head.extend(figures.iter().map(|figure| figure.name()));
        head.push("at_least".into());
        write!(out, "{}\r\n", head.join(","))?;
        for (key, row) in self.answer.rows.iter() {
            let mut cells: Vec<String> =
                self.keys(key).into_iter().map(|(_, value)| csv_cell(&value)).collect();
            let mut bounds = Vec::new();
            for figure in figures {
                let said = row.said(*figure);
                if matches!(said, Said::AtLeast(_)) {
                    bounds.push(figure.name());
                }
                let value = said.value().map(|value| figure.json(value).to_string());
                cells.push(value.unwrap_or_default());
            }
            cells.push(bounds.join(";"));
            write!(out, "{}\r\n", cells.join(","))?;
        }
        Ok(())
    }
}

/// What begins like a formula gets an apostrophe in front: spreadsheets would run it. Where a semicolon, a
/// tab or a line end separates cells by the reader's settings, quotes do not keep a text together, so each place
/// behind one is looked at.
fn disarmed(text: &str) -> String {
    let mut disarmed = String::with_capacity(text.len());
    let mut begins = true;
    for character in text.chars() {
        match character {
            ';' | '\t' | '\r' | '\n' => begins = true,
            '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' => {
                if std::mem::take(&mut begins) {
                    disarmed.push('\'');
                }
            }
            '"' | '\'' | ' ' => {}
            _ => begins = false,
        }
        disarmed.push(character);
    }
    disarmed
}

/// A cell as RFC 4180 has it, and no formula.
pub fn csv_cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => return other.to_string(),
    };
    let text = disarmed(&text);
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn csv_cells_are_quoted_and_disarmed() {
        assert_eq!(csv_cell(&json!("a,\"b\"")), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_cell(&json!("=1+1")), "'=1+1");
        assert_eq!(csv_cell(&json!("a;=1+1")), "a;'=1+1");
        assert_eq!(csv_cell(&json!("a\t \"@x\"")), "\"a\t \"\"'@x\"\"\"");
        assert_eq!(csv_cell(&json!("a;b-c=d")), "a;b-c=d");
        assert_eq!(csv_cell(&json!(-1)), "-1");
        assert_eq!(csv_cell(&Value::Null), "");
    }
}
