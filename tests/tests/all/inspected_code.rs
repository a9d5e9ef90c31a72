//! What `analyzer inspect` finds in a program without running it, beside what a run of it executes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use tests::artifacts;
use tests::stepper::{self, Start};

/// Debian's gzip is stripped: its functions come from the unwinding table alone.
#[test]
#[ignore = "steps through a million instructions: ./run soak"]
fn what_gzip_executes_is_in_functions_that_were_found() {
    let Some(artifacts) = artifacts::need("inspected_code") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("text");
    std::fs::write(&text, "count blocks, weigh later; weigh later, count blocks\n".repeat(12))
        .expect("writes");
    let gzip = Path::new("/usr/bin/gzip");
    let output = Command::new(&artifacts.analyzer)
        .args(["inspect", "--format", "json"])
        .arg(gzip)
        .output()
        .expect("starts");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let functions: BTreeMap<u64, (u64, u64)> = found["functions"]
        .as_array()
        .expect("functions")
        .iter()
        .map(|one| (number(&one["address"]), (number(&one["size"]), number(&one["instructions"]))))
        .collect();

    let arguments = ["-9", "-n", "-c", text.to_str().expect("UTF-8")];
    let run = stepper::count(gzip, &arguments, Start::Exec).expect("steps");
    assert!(run.status.success());
    let last = functions.last_key_value().map_or(0, |(address, (size, _))| address + size);
    let (mut visited, mut outside): (BTreeMap<u64, u64>, u64) = (BTreeMap::new(), 0);
    for address in run.visited.range(..last) {
        let function = functions.range(..=*address).next_back();
        match function.filter(|(start, (size, _))| address - **start < *size) {
            Some((start, _)) => *visited.entry(*start).or_default() += 1,
            None => outside += 1,
        }
    }
    for (start, count) in &visited {
        let (_, instructions) = functions[start];
        assert!(
            *count <= instructions,
            "{start:#x}: {count} of {instructions} instructions executed"
        );
    }
    let executed: u64 = visited.values().sum();
    let all = number(&found["totals"]["instructions"]);
    println!(
        "{executed} of {all} instructions, {} of {} functions were executed; {outside} instructions elsewhere",
        visited.len(),
        functions.len()
    );
    // The compiler's start-up code has neither symbols nor unwinding entries.
    assert!(outside * 20 < executed, "{outside} executed instructions are in no function");
    // A compression uses a part of the program, and no small one.
    assert!(
        executed * 20 > all && visited.len() * 5 > functions.len(),
        "{executed} {}",
        visited.len()
    );
    let sum: u64 = functions.values().map(|(_, instructions)| instructions).sum();
    assert_eq!(sum, all);
}

#[test]
fn system_call_instructions_are_listed() {
    let Some(artifacts) = artifacts::need("inspected_code") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("calls.c");
    let program = directory.path().join("calls");
    let code = "static long call(long n) { long r; __asm__ volatile(\"syscall\" : \"=a\"(r) : \"0\"(n) : \"rcx\", \"r11\", \"memory\"); return r; }\n\
                int main(void) { return call(39) == call(186) ? 0 : 1; }\n";
    std::fs::write(&source, code).expect("writes");
    let compiled = Command::new("gcc").args(["-O0", "-o"]).arg(&program).arg(&source).status();
    assert!(compiled.expect("starts").success());
    let inspect = |arguments: &[&str]| {
        let output = Command::new(&artifacts.analyzer)
            .arg("inspect")
            .args(arguments)
            .arg(&program)
            .output()
            .expect("starts");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let listed = inspect(&["--by", "syscall"]);
    let listed: Vec<&str> = listed.lines().collect();
    assert!(listed.len() == 1 && listed[0].contains("  call+0x"), "{listed:?}");
    let csv = inspect(&["--by", "function", "--format", "csv"]);
    assert!(csv.starts_with("function,address,size,instructions,memory_reads,"), "{csv}");
    assert!(csv.lines().any(|line| line.starts_with("main,")), "{csv}");
    let table = inspect(&[]);
    assert!(table.contains("dynamic program") && table.contains("not stripped"), "{table}");
}
