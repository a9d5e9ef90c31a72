//! Makes synthetic record sets ([`tests::record_set`]), and measures how fast the format's reader is.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use records::{RECORD_BYTES, Segment};
use tests::record_set::RecordSet;

const USAGE: &str = "usage: record_sets make FOLDER [KEY=NUMBER]... [application=ID]
           writes FOLDER/<node>/*.sar and FOLDER/<application>, the event log (log=0: without it);
           keys: nodes executors_per_node cores tasks_per_executor ticks_per_task tasks_per_stage
           killed_every segment_bytes seed
       record_sets parse FILE...
           bytes and groups a second of one core over files that are in memory";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((command, rest)) if command == "make" && !rest.is_empty() => {
            make(&rest[0], &rest[1..])
        }
        Some((command, rest)) if command == "parse" && !rest.is_empty() => parse(rest),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn make(folder: &str, settings: &[String]) -> Result<(), String> {
    let mut set = RecordSet::default();
    let mut has_log = true;
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or(USAGE)?;
        if key == "application" {
            value.clone_into(&mut set.application);
            continue;
        }
        let number: u64 = value.parse().map_err(|_| format!("{setting}: not a number\n{USAGE}"))?;
        *match key {
            "nodes" => &mut set.nodes,
            "executors_per_node" => &mut set.executors_per_node,
            "cores" => &mut set.cores,
            "tasks_per_executor" => &mut set.tasks_per_executor,
            "ticks_per_task" => &mut set.ticks_per_task,
            "tasks_per_stage" => &mut set.tasks_per_stage,
            "killed_every" => &mut set.killed_every,
            "segment_bytes" => &mut set.segment_bytes,
            "seed" => &mut set.seed,
            "log" => {
                has_log = number > 0;
                continue;
            }
            _ => return Err(USAGE.to_owned()),
        } = number;
    }
    let folder = Path::new(folder);
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    let written = set.write_records(folder).map_err(at)?;
    if has_log {
        let mut log = BufWriter::new(File::create(folder.join(&set.application)).map_err(at)?);
        set.write_event_log(&mut log).and_then(|()| log.flush()).map_err(at)?;
    }
    println!(
        "generated: {} nodes, {} tasks, {} files, {} records, {} bytes",
        set.nodes,
        set.tasks(),
        written.files,
        written.records,
        written.bytes
    );
    Ok(())
}

fn parse(files: &[String]) -> Result<(), String> {
    let contents: Vec<Vec<u8>> = files
        .iter()
        .map(|file| fs::read(file).map_err(|error| format!("{file}: {error}")))
        .collect::<Result<_, _>>()?;
    for _ in 0..3 {
        let (mut bytes, mut groups, mut sum) = (0, 0_u64, 0_u64);
        let began = Instant::now();
        for content in &contents {
            let segment = Segment::parse(content).map_err(|error| error.to_string())?;
            for group in segment.groups() {
                groups += 1;
                sum = sum.wrapping_add(group.values.map_or(0, |values| values.raw()[0]));
            }
            bytes += content.len();
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{:.2} GB/s, {:.2} million records/s, {:.2} million groups/s (sum {sum})",
            bytes as f64 / seconds / 1e9,
            (bytes / RECORD_BYTES) as f64 / seconds / 1e6,
            groups as f64 / seconds / 1e6
        );
    }
    Ok(())
}
