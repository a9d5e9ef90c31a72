//! Printing a report as a Markdown table.

use std::io::{self, Write};

use crate::report::figure::Figure;
use crate::report::key::Dimension;
use crate::report::print::Report;
use crate::report::words::{cell, shown};
use crate::text::shown::printable;

impl Report<'_> {
    /// Prints a Markdown table.
    pub fn markdown(&self, out: &mut impl Write, columns: &[(Figure, String)]) -> io::Result<()> {
        // The default blocks have some figures in common.
        let mut seen = Vec::new();
        let is_new = |(figure, _): &&(Figure, String)| {
            let is_new = !seen.contains(figure);
            seen.push(*figure);
            is_new
        };
        let columns: Vec<_> = columns.iter().filter(is_new).collect();
        let has_names = self.by.contains(&Dimension::Stage);
        let mut heads: Vec<_> = self.by.iter().map(|one| one.name()).collect();
        if has_names {
            heads.push("name");
        }
        heads.push("part");
        let keys = heads.len();
        heads.extend(columns.iter().map(|(_, head)| head.as_str()));
        writeln!(out, "| {} |", heads.join(" | "))?;
        let lines: Vec<_> =
            (0..heads.len()).map(|at| if at < keys { "---" } else { "---:" }).collect();
        writeln!(out, "|{}|", lines.join("|"))?;
        for (key, row) in self.answer.rows.iter() {
            let mut cells: Vec<_> =
                self.by.iter().map(|one| markdown_cell(&shown(key, *one))).collect();
            if has_names {
                let fields = self.keys(key);
                let name = fields.iter().find(|(field, _)| *field == "stage_name");
                let name = name.and_then(|(_, value)| value.as_str()).unwrap_or_default();
                cells.push(markdown_cell(&printable(name)));
            }
            cells.push(key.part.name().to_owned());
            cells.extend(columns.iter().map(|(figure, _)| cell(row, *figure)));
            writeln!(out, "| {} |", cells.join(" | "))?;
        }
        for line in self.answer.notes.lines() {
            writeln!(out, "\nNote: {}", markdown_cell(&printable(&line)))?;
        }
        Ok(())
    }
}

/// Text in which nothing is Markdown or HTML.
pub fn markdown_cell(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' => escaped.extend(['\\', character]),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_disarmed() {
        assert_eq!(markdown_cell("a|b<script>_x_`"), "a\\|b&lt;script>\\_x\\_\\`");
    }
}
