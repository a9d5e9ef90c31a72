//! Printing what was found as table, JSON or CSV.

use std::io::{self, Write};

use elf::code::{Content, demangle};
use elf::functions::Function;
use elf::{Image, Kind};
use records::metric::{ENGINE_COUNT, EngineMetric, INSTRUCTIONS, METRICS, Unit};
use serde_json::{Map, Value, json};

use crate::commands::inspect::found::{Contents, Inspected};
use crate::console::terminal::{GOOD, HEADING, WARNING, number};
use crate::report::csv::csv_cell;
use crate::text::shown::printable;

/// Width of the column of totals.
const WIDTH: usize = 20;
/// The columns of a function that are no metric.
const MORE_COLUMNS: [&str; 4] = ["blocks", "varying", "syscalls", "undecodable"];

/// What a file is, in a word.
fn kind(image: &Image) -> &'static str {
    match image.kind {
        Kind::Dynamic { .. } => "dynamic program",
        Kind::Static => "static program",
        Kind::StaticPie => "static program, position independent",
        Kind::SharedObject => "shared library",
        Kind::NotAProgram => "object file or core dump",
    }
}

/// A function as people know it; one without a symbol by its address.
fn shown(function: &Function) -> String {
    match &function.symbol {
        Some(symbol) => printable(&demangle(symbol)),
        None => format!("{:#x}", function.address),
    }
}

fn more(content: &Content) -> [u64; MORE_COLUMNS.len()] {
    [content.blocks, content.varying, content.syscalls, content.undecodable]
}

fn metric_names() -> impl Iterator<Item = &'static str> {
    METRICS[..ENGINE_COUNT].iter().map(|metric| metric.name)
}

/// The summary for people.
pub fn table(found: &Inspected, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n {HEADING}{}{HEADING:#}\n", printable(&found.path.to_string_lossy()))?;
    for (name, value) in words(found) {
        writeln!(out, " {name:<20} {}", printable(&value))?;
    }
    let yes_or_why = |verdict: Option<String>| match verdict {
        None => format!("{GOOD}yes{GOOD:#}"),
        Some(why) => format!("{WARNING}no{WARNING:#}: {}", printable(&why)),
    };
    let trace = found.trace.as_ref().err().map(ToString::to_string);
    writeln!(out, " {:<20} {}", "analyzer trace", yes_or_why(trace))?;
    writeln!(out, " {:<20} {}", "analyzer rewrite", yes_or_why(found.rewrite.clone().err()))?;
    let Some(contents) = &found.contents else { return writeln!(out) };
    writeln!(out, "\n {HEADING}Its code, each instruction once:{HEADING:#}\n")?;
    let total = &contents.code.total;
    let functions = &contents.functions;
    let unnamed = functions.list.iter().filter(|function| function.symbol.is_none()).count();
    let line = |out: &mut dyn Write, value: u64, name: &str| {
        writeln!(out, "{:>WIDTH$}  {name}", number(Some(value)))
    };
    writeln!(
        out,
        "{:>WIDTH$}  functions, {} of them without a symbol",
        number(Some(functions.list.len() as u64)),
        number(Some(unnamed as u64))
    )?;
    line(out, total.blocks, "basic blocks")?;
    for (name, value) in metric_names().zip(total.counts) {
        line(out, value, name)?;
    }
    line(out, total.varying, "varying: their accesses are decided when they run (REP, masks)")?;
    line(out, total.syscalls, "system-call instructions (--by syscall)")?;
    if total.undecodable > 0 {
        line(out, total.undecodable, "places that hold no instruction that the decoder knows")?;
    }
    writeln!(
        out,
        "{:>WIDTH$}  bytes of code, {} of them in functions\n",
        number(Some(functions.executable_bytes)),
        number(Some(covered(contents)))
    )
}

fn covered(contents: &Contents) -> u64 {
    contents.functions.list.iter().map(|function| function.size).sum()
}

/// The facts, as names and values.
fn words(found: &Inspected) -> Vec<(&'static str, String)> {
    let mut words = vec![("kind", kind(&found.image).to_owned())];
    words.push(("architecture", found.image.architecture()));
    if let Kind::Dynamic { interpreter } = &found.image.kind {
        words.push(("interpreter", interpreter.display().to_string()));
    }
    for (bit, name) in [(libc::S_ISUID, "set-uid"), (libc::S_ISGID, "set-gid")] {
        if found.mode & bit != 0 {
            words.push(("rights", name.to_owned()));
        }
    }
    let Some(Contents { facts, .. }) = &found.contents else { return words };
    if let Some(name) = &facts.soname {
        words.push(("name", name.clone()));
    }
    words
        .push(("needs", if facts.needed.is_empty() { "-".into() } else { facts.needed.join(" ") }));
    if !facts.run_path.is_empty() {
        let folders: Vec<_> =
            facts.run_path.iter().map(|path| path.display().to_string()).collect();
        words.push(("run path", folders.join(" ")));
    }
    words.push(("build id", facts.build_id.clone().unwrap_or_else(|| "-".into())));
    let symbols = match (facts.has_symbols, facts.has_debug_info) {
        _ if !facts.has_sections => "stripped, without a section table",
        (_, true) => "with debugging information",
        (true, false) => "not stripped",
        (false, false) => "stripped",
    };
    words.push(("symbols", symbols.to_owned()));
    words.push(("RELRO", facts.relro.name().to_owned()));
    let cet: Vec<&str> = [(facts.has_branch_tracking, "IBT"), (facts.has_shadow_stack, "SHSTK")]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect();
    words.push(("CET", if cet.is_empty() { "-".into() } else { cet.join(" ") }));
    if facts.has_executable_stack {
        words.push(("stack", "executable".to_owned()));
    }
    if facts.is_rewritten {
        words.push(("rewritten", "by analyzer rewrite; --undo gives back the original".to_owned()));
    }
    words
}

/// The functions, those with the most instructions first.
fn ranked(contents: &Contents) -> Vec<(&Function, &Content)> {
    let mut rows: Vec<_> = contents.functions.list.iter().zip(&contents.code.functions).collect();
    rows.sort_by_key(|(function, content)| {
        (std::cmp::Reverse(content.instructions()), function.address)
    });
    rows
}

/// Whether a metric has a column in the list of functions: of memory they show accesses, not bytes.
fn is_column(metric: &EngineMetric) -> bool {
    METRICS[*metric as usize].unit == Unit::Count
}

/// Every function for people.
pub fn functions(found: &Inspected, out: &mut impl Write) -> io::Result<()> {
    let Some(contents) = &found.contents else { return table(found, out) };
    let counted = || EngineMetric::ALL.into_iter().skip(1).filter(is_column);
    let mut heads = vec![METRICS[INSTRUCTIONS].name, "blocks"];
    heads.extend(counted().map(|metric| metric.telling().head));
    heads.extend(["varying", "syscalls"]);
    let heads: String = heads.iter().map(|head| format!("{head:>13}")).collect();
    writeln!(out, "{HEADING}{:>18} {heads}  function{HEADING:#}", "address")?;
    for (function, content) in ranked(contents) {
        let mut cells = vec![content.instructions(), content.blocks];
        cells.extend(counted().map(|metric| content.counts[metric as usize]));
        cells.extend([content.varying, content.syscalls]);
        let cells: String =
            cells.iter().map(|cell| format!("{:>13}", number(Some(*cell)))).collect();
        writeln!(out, "{:>#18x} {cells}  {}", function.address, shown(function))?;
    }
    Ok(())
}

/// Every system-call instruction for people.
pub fn syscalls(found: &Inspected, out: &mut impl Write) -> io::Result<()> {
    let Some(contents) = &found.contents else { return table(found, out) };
    for (address, place) in &contents.code.syscalls {
        let function = &contents.functions.list[*place];
        writeln!(out, "{address:>#18x}  {}+{:#x}", shown(function), address - function.address)?;
    }
    Ok(())
}

/// The totals in one row.
pub fn csv_total(found: &Inspected, out: &mut impl Write) -> io::Result<()> {
    csv_head(out, &["path", "functions", "executable_bytes"])?;
    let Some(contents) = &found.contents else { return Ok(()) };
    let path = csv_cell(&json!(found.path.to_string_lossy()));
    write!(
        out,
        "{path},{},{}",
        contents.functions.list.len(),
        contents.functions.executable_bytes
    )?;
    csv_content(out, &contents.code.total)
}

/// Every function in a row.
pub fn csv_functions(found: &Inspected, out: &mut impl Write) -> io::Result<()> {
    csv_head(out, &["function", "address", "size"])?;
    let Some(contents) = &found.contents else { return Ok(()) };
    for (function, content) in ranked(contents) {
        let name = csv_cell(&json!(shown(function)));
        write!(out, "{name},{},{}", function.address, function.size)?;
        csv_content(out, content)?;
    }
    Ok(())
}

/// Every system-call instruction in a row.
pub fn csv_syscalls(found: &Inspected, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "address,function,offset")?;
    let Some(contents) = &found.contents else { return Ok(()) };
    for (address, place) in &contents.code.syscalls {
        let function = &contents.functions.list[*place];
        let name = csv_cell(&json!(shown(function)));
        writeln!(out, "{address},{name},{}", address - function.address)?;
    }
    Ok(())
}

fn csv_head(out: &mut impl Write, first: &[&'static str]) -> io::Result<()> {
    let names: Vec<&str> =
        first.iter().copied().chain(metric_names()).chain(MORE_COLUMNS).collect();
    writeln!(out, "{}", names.join(","))
}

fn csv_content(out: &mut impl Write, content: &Content) -> io::Result<()> {
    for value in content.counts.into_iter().chain(more(content)) {
        write!(out, ",{value}")?;
    }
    writeln!(out)
}

/// Everything.
pub fn json(found: &Inspected, out: &mut impl Write) -> io::Result<()> {
    let mut whole = Map::new();
    let mut put = |name: &str, value: Value| whole.insert(name.to_owned(), value);
    put("path", json!(found.path.to_string_lossy()));
    put("bytes", json!(found.length));
    put("kind", json!(kind(&found.image)));
    put("architecture", json!(found.image.architecture()));
    let interpreter = match &found.image.kind {
        Kind::Dynamic { interpreter } => json!(interpreter.to_string_lossy()),
        _ => Value::Null,
    };
    put("interpreter", interpreter);
    put("set_uid", json!(found.mode & libc::S_ISUID != 0));
    put("set_gid", json!(found.mode & libc::S_ISGID != 0));
    let verdict = |why: Option<String>| json!({ "possible": why.is_none(), "why_not": why });
    put("trace", verdict(found.trace.as_ref().err().map(ToString::to_string)));
    put("rewrite", verdict(found.rewrite.clone().err()));
    if let Some(contents) = &found.contents {
        let facts = &contents.facts;
        put("soname", json!(facts.soname));
        put("needed", json!(facts.needed));
        put("run_path", facts.run_path.iter().map(|path| json!(path.to_string_lossy())).collect());
        put("build_id", json!(facts.build_id));
        put("has_sections", json!(facts.has_sections));
        put("has_symbols", json!(facts.has_symbols));
        put("has_debug_info", json!(facts.has_debug_info));
        put("relro", json!(facts.relro.name()));
        put("ibt", json!(facts.has_branch_tracking));
        put("shstk", json!(facts.has_shadow_stack));
        put("executable_stack", json!(facts.has_executable_stack));
        put("thread_local", json!(facts.has_thread_local));
        put("rewritten", json!(facts.is_rewritten));
        put("executable_bytes", json!(contents.functions.executable_bytes));
        put("function_bytes", json!(covered(contents)));
        put("function_count", json!(contents.functions.list.len()));
        put("totals", json_content(&contents.code.total).into());
        let functions = contents.functions.list.iter().zip(&contents.code.functions);
        let functions = functions.map(|(function, content)| {
            let mut row = Map::new();
            row.insert("name".into(), json!(function.symbol.as_deref().map(demangle)));
            row.insert("symbol".into(), json!(function.symbol));
            row.insert("address".into(), json!(function.address));
            row.insert("size".into(), json!(function.size));
            row.extend(json_content(content));
            Value::Object(row)
        });
        put("functions", functions.collect());
        let syscalls = contents.code.syscalls.iter().map(|(address, place)| {
            let function = &contents.functions.list[*place];
            json!({ "address": address, "function": function.address })
        });
        put("syscalls", syscalls.collect());
    }
    serde_json::to_writer(&mut *out, &Value::Object(whole))?;
    writeln!(out)
}

fn json_content(content: &Content) -> Map<String, Value> {
    let names = metric_names().chain(MORE_COLUMNS);
    let values = content.counts.into_iter().chain(more(content));
    names.zip(values).map(|(name, value)| (name.to_owned(), json!(value))).collect()
}
