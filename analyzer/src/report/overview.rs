//! The first screen: what ran, how long, what it cost, what is wrong with it, and what to do.

use std::io::{self, Write};

use crate::console::terminal::{HEADING, WARNING, utc};
use crate::report::answer::Answer;
use crate::report::figure::{Figure, Scale};
use crate::report::findings::facts::{Facts, Stage};
use crate::report::findings::rules::Finding;
use crate::report::rows::{Row, Said};
use crate::report::words::{human, stage_text, wrapped_to};
use crate::text::shown::printable;

/// So many findings are shown; the rest is counted.
const FINDINGS: usize = 8;

/// What is shown.
pub struct Overview<'a> {
    /// The application with all that is known of it.
    pub facts: &'a Facts<'a>,
    /// What is wrong with it.
    pub findings: &'a [Finding],
    /// How many other applications there are.
    pub others: usize,
    /// How wide lines may be.
    pub width: usize,
    /// How many stages are shown; all, if `None`.
    pub top: Option<usize>,
}

fn said(row: &Row, name: &str) -> String {
    let Ok(figure) = Figure::parse(name) else { return "-".into() };
    crate::report::words::cell(row, figure)
}

/// A sum of figures of which at least one is known.
fn sum(row: &Row, names: &[&str]) -> Option<u64> {
    let known = names.iter().filter_map(|name| row.said(Figure::parse(name).ok()?).value());
    let all: Vec<u64> = known.collect();
    (!all.is_empty()).then(|| all.iter().fold(0_u64, |sum, one| sum.saturating_add(*one)))
}

fn or_dash(value: Option<u64>, scale: Scale) -> String {
    value.map_or("-".into(), |value| human(value, scale))
}

impl Overview<'_> {
    fn answer(&self) -> &Answer {
        self.facts.answer
    }

    /// Prints it.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        self.head(out)?;
        self.print_findings(out)?;
        self.stages(out)?;
        for line in self.answer().notes.lines() {
            wrapped_to(out, "note: ", &printable(&line), self.width)?;
        }
        if let Some(line) = self.answer().written.line() {
            wrapped_to(out, "", &line, self.width)?;
        }
        if self.others > 0 {
            let more = if self.others == 1 { "application" } else { "applications" };
            let text =
                format!("{} other {more} in the store: analyzer apps, then --app", self.others);
            wrapped_to(out, "", &text, self.width)?;
        }
        let text = "more figures: --figures memory, io, ratios, spark or all; other rows: --by; a page: --format html -o report.html";
        wrapped_to(out, "", text, self.width)
    }

    fn head(&self, out: &mut impl Write) -> io::Result<()> {
        let facts = self.facts;
        let name = facts.app.and_then(|app| app.name.as_deref());
        let title = match name {
            Some(name) => format!("{name} ({})", facts.application),
            None => format!("Application {}", facts.application),
        };
        writeln!(out, "{HEADING}{}{HEADING:#}", printable(&title))?;
        let mut parts = Vec::new();
        if let Some(app) = facts.app {
            parts.extend(app.user.as_ref().map(|user| format!("user {user}")));
            parts.extend(app.version.as_ref().map(|version| format!("Spark {version}")));
            parts.extend(app.started_ms.map(|ms| format!("{} UTC", utc(ms / 1000 * 1000))));
        }
        parts.extend(facts.wall_ms.map(|ms| format!("{} wall", human(ms, Scale::Milliseconds))));
        parts.push(self.state());
        wrapped_to(out, "  ", &printable(&parts.join(", ")), self.width)?;
        let workers =
            facts.executors.iter().filter(|(id, one)| *id != "driver" || one.cores.is_some());
        let mut parts = Vec::new();
        match workers.count() {
            0 => {}
            1 => parts.push("1 executor".to_owned()),
            many => parts.push(format!("{many} executors")),
        }
        parts.extend(facts.cores.map(|cores| match cores {
            1 => "1 core".to_owned(),
            many => format!("{many} cores"),
        }));
        let tasks = facts.in_tasks.said(Figure::Tasks).value().unwrap_or(0);
        parts.push(format!("{} stages", facts.stages.len()));
        parts.push(format!("{tasks} tasks"));
        if let Some(failed) =
            facts.in_tasks.said(Figure::FailedTasks).value().filter(|one| *one > 0)
        {
            parts.push(format!("{failed} of them failed or killed"));
        }
        wrapped_to(out, "  ", &parts.join(", "), self.width)?;
        let mut parts =
            vec![format!("{} instructions in tasks", said(&facts.in_tasks, "instructions"))];
        if facts.outside.said(Figure::Metric(records::metric::INSTRUCTIONS)) != Said::Unknown {
            parts.push(format!("{} outside", said(&facts.outside, "instructions")));
        }
        for (name, what) in [
            ("spark_cpu_time_ns", "CPU time"),
            ("spark_input_bytes", "input"),
            ("spark_output_bytes", "output"),
            ("spark_shuffle_bytes", "shuffle"),
        ] {
            if facts.in_tasks.said(Figure::parse(name).unwrap_or(Figure::Tasks)) != Said::Unknown {
                parts.push(format!("{} {what}", said(&facts.in_tasks, name)));
            }
        }
        wrapped_to(out, "  ", &parts.join(", "), self.width)?;
        writeln!(out)
    }

    /// Whether it has ended, and how.
    fn state(&self) -> String {
        let facts = self.facts;
        let jobs = self.answer().logs.jobs.iter().filter(|((id, _), _)| id == facts.application);
        let failed: Vec<_> =
            jobs.filter(|(_, job)| job.result.as_deref() == Some("JobFailed")).collect();
        let why = failed.iter().find_map(|(_, job)| job.failure.clone());
        let why = why.map(|why| format!(" ({})", why.chars().take(100).collect::<String>()));
        match (facts.app, failed.len()) {
            (None, _) => "no event log".into(),
            (Some(app), 0) if app.ended_ms.is_some() => "finished".into(),
            (Some(_), 0) => "running, or ended without saying so".into(),
            (Some(_), 1) => format!("1 job failed{}", why.unwrap_or_default()),
            (Some(_), many) => format!("{many} jobs failed{}", why.unwrap_or_default()),
        }
    }

    fn print_findings(&self, out: &mut impl Write) -> io::Result<()> {
        if self.findings.is_empty() {
            return writeln!(out, "{HEADING}Findings{HEADING:#}: none\n");
        }
        writeln!(out, "{HEADING}Findings, what costs most first{HEADING:#}")?;
        for (at, finding) in self.findings.iter().take(FINDINGS).enumerate() {
            let stages: Vec<_> = finding
                .stages
                .iter()
                .map(|(stage, attempt)| stage_text(*stage, *attempt))
                .collect();
            let (shown, more) = stages.split_at(stages.len().min(8));
            let more =
                if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            let place = match shown.len() {
                0 => String::new(),
                1 => format!(", stage {}", shown[0]),
                _ => format!(", stages {}{more}", shown.join(", ")),
            };
            let title = finding.rule.title();
            let line = format!("{title}{WARNING:#}{place}: {}", finding.gain_text());
            writeln!(out, "{:>2} {WARNING}{line}", at + 1)?;
            wrapped_to(out, "   ", &printable(&finding.evidence), self.width)?;
            wrapped_to(out, "   -> ", finding.rule.remedy, self.width)?;
        }
        if self.findings.len() > FINDINGS {
            let more = self.findings.len() - FINDINGS;
            writeln!(out, "   and {more} more that cost less (--format json has all)")?;
        }
        writeln!(out)
    }

    /// The numbers of the findings on a stage.
    fn marks(&self, stage: &Stage<'_>) -> String {
        let of = self.findings.iter().take(FINDINGS).enumerate();
        let own = of.filter(|(_, finding)| finding.stages.contains(&stage.id));
        own.map(|(at, _)| (at + 1).to_string()).collect::<Vec<_>>().join(",")
    }

    fn stages(&self, out: &mut impl Write) -> io::Result<()> {
        const HEADS: [&str; 9] =
            ["tasks", "wall", "time", "instrs", "%", "per rec", "in", "out", "skew"];
        let whole = self.facts.instructions.unwrap_or(0);
        let mut shown: Vec<&Stage<'_>> = self.facts.stages.iter().collect();
        if let Some(top) = self.top.filter(|top| *top < shown.len()) {
            // The most expensive ones, in their order.
            let cost = |stage: &Stage<'_>| {
                let instructions = stage.row.said(Figure::Metric(records::metric::INSTRUCTIONS));
                (instructions.value(), stage.task_ms())
            };
            shown.sort_by_key(|stage| std::cmp::Reverse(cost(stage)));
            shown.truncate(top);
            shown.sort_by_key(|stage| stage.id);
        }
        let lines: Vec<[String; 9]> = shown
            .iter()
            .map(|stage| {
                let work = stage.row.said(Figure::Metric(records::metric::INSTRUCTIONS));
                let records =
                    sum(&stage.row, &["spark_input_records", "spark_shuffle_read_records"]);
                let per_record = match (work, records) {
                    (Said::Exactly(work), Some(records @ 1..)) => Some(work / records),
                    _ => None,
                };
                let share = work.value().filter(|_| whole > 0).map(|work| {
                    format!("{}", (u128::from(work) * 200 / u128::from(whole)).div_ceil(2))
                });
                let tasks = stage.row.said(Figure::Tasks).value().unwrap_or(0);
                let failed = stage.row.said(Figure::FailedTasks).value().filter(|one| *one > 0);
                let retried = stage.log.and_then(|log| u64::try_from(log.planned_tasks?).ok());
                let retried = retried.and_then(|planned| tasks.checked_sub(planned));
                let retried = retried.filter(|one| *one > 0);
                let mut cell = tasks.to_string();
                cell.extend(failed.map(|failed| format!(" {failed}f")));
                cell.extend(retried.map(|retried| format!(" {retried}r")));
                [
                    cell,
                    or_dash(stage.wall_ms(), Scale::Milliseconds),
                    or_dash(stage.task_ms(), Scale::Milliseconds),
                    crate::report::words::cell(
                        &stage.row,
                        Figure::Metric(records::metric::INSTRUCTIONS),
                    ),
                    share.unwrap_or("-".into()),
                    or_dash(per_record, Scale::Count),
                    or_dash(
                        sum(&stage.row, &["spark_input_bytes", "spark_shuffle_read_bytes"]),
                        Scale::Bytes,
                    ),
                    or_dash(
                        sum(&stage.row, &["spark_output_bytes", "spark_shuffle_write_bytes"]),
                        Scale::Bytes,
                    ),
                    stage
                        .skew()
                        .map_or("-".into(), |skew| format!("{}.{:02}", skew / 100, skew % 100)),
                ]
            })
            .collect();
        let ids: Vec<_> = shown.iter().map(|stage| stage_text(stage.id.0, stage.id.1)).collect();
        let marks: Vec<_> = shown.iter().map(|stage| self.marks(stage)).collect();
        let widest = |cells: &mut dyn Iterator<Item = usize>| cells.max().unwrap_or(0);
        let id_width = widest(&mut ids.iter().map(String::len).chain([1]));
        let mark_width = widest(&mut marks.iter().map(String::len));
        let widths: Vec<usize> = (0..HEADS.len())
            .map(|at| widest(&mut lines.iter().map(|line| line[at].len()).chain([HEADS[at].len()])))
            .collect();
        // Columns that say the same everywhere make room for names.
        let is_told: Vec<bool> = (0..HEADS.len())
            .map(|at| at == 0 || lines.iter().any(|line| line[at] != "-"))
            .collect();
        let figures: usize = widths
            .iter()
            .zip(&is_told)
            .map(|(width, told)| if *told { width + 1 } else { 0 })
            .sum();
        let taken = id_width + 1 + figures + if mark_width > 0 { mark_width + 1 } else { 0 };
        let longest =
            widest(&mut shown.iter().map(|stage| self.name(stage, usize::MAX).chars().count()));
        let room = self.width.saturating_sub(taken);
        let name_width = longest.max(4).min(room.max(14));
        let mut head = format!("{:<width$}", "stage", width = id_width + 1 + name_width);
        for ((name, width), told) in HEADS.iter().zip(&widths).zip(&is_told) {
            if *told {
                head.push_str(&format!(" {name:>width$}"));
            }
        }
        writeln!(out, "{HEADING}{}{HEADING:#}", head.trim_end())?;
        for (((stage, id), line), mark) in shown.iter().zip(&ids).zip(&lines).zip(&marks) {
            let name = self.name(stage, name_width);
            let mut text = format!("{id:>id_width$} {name:<name_width$}");
            for ((cell, width), told) in line.iter().zip(&widths).zip(&is_told) {
                if *told {
                    text.push_str(&format!(" {cell:>width$}"));
                }
            }
            if !mark.is_empty() {
                text.push_str(&format!(" {WARNING}{mark}{WARNING:#}"));
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        let hidden = self.facts.stages.len() - shown.len();
        if hidden > 0 {
            writeln!(out, "{:>id_width$} {hidden} stages of fewer instructions (--top)", "")?;
        }
        let mut legend = vec![
            "per rec: instructions per record read",
            "in, out: input and shuffle read, output and shuffle written",
            "skew: largest / median instructions of a task (its time where they are unknown)",
        ];
        if !self.findings.is_empty() {
            legend.push("at the end: findings");
        }
        let cells = || lines.iter().flatten();
        if cells().any(|cell| cell.ends_with('f') || cell.ends_with('r')) {
            legend.push("f: failed or killed, r: beyond what was planned");
        }
        if cells().any(|cell| cell.ends_with('+')) {
            legend.push("+: at least, a part is unknown");
        }
        if cells().any(|cell| cell == "-") {
            legend.push("-: unknown");
        }
        wrapped_to(out, "  ", &legend.join("; "), self.width)?;
        writeln!(out)
    }

    fn name(&self, stage: &Stage<'_>, width: usize) -> String {
        let name = stage.name.map(|name| name.short(width)).unwrap_or_default();
        let name = printable(&name);
        match name.chars().count() <= width {
            true => name,
            // Escapes of what cannot be shown are longer than it.
            false => name.chars().take(width).collect(),
        }
    }
}
