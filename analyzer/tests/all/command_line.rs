//! The command line as people meet it: help, errors with their remedy, exit codes.

use std::process::Output;

use assert_cmd::Command;

/// Runs the analyzer without the variables that change what it says.
fn analyzer(arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("analyzer").expect("built with the tests");
    for (name, _) in std::env::vars() {
        if name.starts_with("SPARKANALYZER_")
            || ["LD_PRELOAD", "COLUMNS", "NO_COLOR", "CLICOLOR_FORCE"].contains(&name.as_str())
        {
            command.env_remove(name);
        }
    }
    command.args(arguments).output().expect("starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// What it prints on standard error and its exit code, for a snapshot.
fn complaint(arguments: &[&str]) -> String {
    let output = analyzer(arguments);
    assert_eq!(text(&output.stdout), "", "errors go to standard error");
    let code = output.status.code().expect("not killed");
    format!("{}exit code {code}", text(&output.stderr))
}

#[test]
fn help_has_examples_and_exit_codes() {
    let output = analyzer(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for part in ["Examples:\n  analyzer trace", "Exit codes:\n  0  success", "  6  the environment"]
    {
        assert!(help.contains(part), "{part:?} is not in {help}");
    }
}

#[test]
fn help_of_trace() {
    let output = analyzer(&["trace", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(text(&output.stdout));
}

#[test]
fn every_command_has_help_with_an_exit_code_of_zero() {
    let help = text(&analyzer(&["--help"]).stdout);
    let list = help.split("Commands:\n").nth(1).expect("a list of commands");
    let commands: Vec<_> =
        list.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.contains(&"trace") && commands.contains(&"man"), "{commands:?}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        let output = analyzer(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = text(&output.stdout);
        assert!(help.contains("Usage: analyzer"), "{command}");
        if !["completions", "man"].contains(&command) {
            for part in ["Examples:\n  ", "Exit codes:\n  0  success"] {
                assert!(help.contains(part), "{command}: {part:?}");
            }
        }
    }
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    insta::assert_snapshot!(complaint(&["trace", "--trcer", "none", "--", "ls"]), @r"
    error: unexpected argument '--trcer' found

      tip: a similar argument exists: '--tracer'
      tip: to pass '--trcer' as a value, use '-- --trcer'

    Usage: analyzer trace --tracer <TRACER> <PROGRAM>...

    For more information, try '--help'.
    exit code 2
    ");
}

#[test]
fn an_unknown_command_names_the_nearest() {
    insta::assert_snapshot!(complaint(&["trase", "--", "ls"]), @r"
    error: unrecognized subcommand 'trase'

      tip: a similar subcommand exists: 'trace'

    Usage: analyzer [OPTIONS] <COMMAND>

    For more information, try '--help'.
    exit code 2
    ");
}

#[test]
fn an_unknown_metric_names_the_nearest() {
    insta::assert_snapshot!(complaint(&["trace", "--metrics", "file,memory_reed", "--", "ls"]), @r#"
    error: invalid value 'memory_reed' for '--metrics <LIST>': unknown metric "memory_reed" (did you mean "memory_reads"?)

    For more information, try '--help'.
    exit code 2
    "#);
}

#[test]
fn an_unknown_tracer_lists_the_known_ones() {
    insta::assert_snapshot!(complaint(&["trace", "--tracer", "engin", "--", "ls"]), @r"
    error: invalid value 'engin' for '--tracer <TRACER>'
      [possible values: engine, gum, none]

      tip: a similar value exists: 'engine'

    For more information, try '--help'.
    exit code 2
    ");
}

#[test]
fn flags_behind_the_program_are_the_programs() {
    // `ls --trcer` is ls's business: the analyzer gets as far as looking for its library.
    let complaint = complaint(&["trace", "--shim", "/nonexistent/libshim.so", "ls", "--trcer"]);
    assert!(complaint.starts_with("error: /nonexistent/libshim.so (--shim): "), "{complaint}");
    assert!(complaint.ends_with("exit code 6"), "{complaint}");
}

#[test]
fn without_a_command_it_shows_help() {
    let output = analyzer(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("Usage: analyzer"));
}

#[test]
fn colours_only_where_they_are_wanted() {
    let is_coloured = |arguments: &[&str]| analyzer(arguments).stderr.contains(&0x1b);
    // Not a terminal.
    assert!(!is_coloured(&["trace", "--", "no-such-program"]));
    assert!(!is_coloured(&["trase"]));
    assert!(is_coloured(&["--color", "always", "trace", "--", "no-such-program"]));
    assert!(is_coloured(&["--color=always", "trase"]));
    assert!(!is_coloured(&["--color", "never", "trase"]));
}

/// How much is said is the user's choice, and results are the same.
#[test]
fn quiet_and_verbose() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/golden");
    let said = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--store", store.to_str().expect("UTF-8")]);
        let output = analyzer(&all);
        (text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(said(&["--quiet", "ingest", golden]).0, "");
    assert!(said(&["ingest", golden]).0.contains("record files"));
    let (plain, nothing) = said(&["report", "--by", "node"]);
    assert_eq!(nothing, "");
    let (same, steps) = said(&["report", "--by", "node", "-v"]);
    assert_eq!(same, plain);
    assert!(steps.contains("reading processes: 3 rows, "), "{steps}");
    assert_eq!(analyzer(&["-q", "-v", "man"]).status.code(), Some(2));
}

#[test]
fn completions_know_the_flags() {
    for (shell, word) in [
        ("bash", "--best-effort"),
        ("zsh", "--best-effort"),
        ("fish", "best-effort"),
        ("elvish", "--best-effort"),
    ] {
        let output = analyzer(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains(word), "{shell}");
    }
}

#[test]
fn man_pages_of_all_commands() {
    let page = text(&analyzer(&["man"]).stdout);
    assert!(page.contains(".TH analyzer 1"), "{page}");
    let folder = tempfile::tempdir().expect("a folder");
    let output = analyzer(&["man", folder.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0));
    let trace = std::fs::read_to_string(folder.path().join("analyzer-trace.1")).expect("written");
    assert!(trace.contains("best\\-effort"), "{trace}");
    for command in ["report", "diff", "export", "top", "doctor", "spark-conf", "ingest"] {
        let page = folder.path().join(format!("analyzer-{command}.1"));
        let page = std::fs::read_to_string(page).expect(command);
        for part in ["Examples:", "Exit codes:", "\\-\\-quiet"] {
            assert!(page.contains(part), "{command}: {part}");
        }
    }
    let refused = complaint(&["man", "/proc/no-such-folder"]);
    assert!(refused.ends_with("exit code 4"), "{refused}");
}
