//! What others wrote reaches a terminal as text: in every format, in messages, and in names of files.

use std::path::Path;

use crate::fixture::rogue::Rogue;
use crate::fixture::terminal::Terminal;
use crate::fixture::{Writer, analyzer, expect};

/// A title for the window, a clearing of the screen by a C1 control, and a turn of the direction.
const HOSTILE: &str = "a\u{1b}]0;pwned\u{7}b\u{9b}2Jc\u{202e}d\u{2066}e\r\u{200b}f";

/// Wants that nothing of it is left as it was; `colours` may be.
fn is_harmless(shown: &str, colours: bool, what: &str) {
    let rest = match colours {
        // Select Graphic Rendition alone.
        true => {
            let mut rest = String::new();
            for (at, piece) in shown.split("\u{1b}[").enumerate() {
                let end = piece.find(|one: char| !one.is_ascii_digit() && one != ';');
                let is_sgr = end.is_some_and(|end| piece[end..].starts_with('m'));
                assert!(at == 0 || is_sgr, "{what}: {shown:?}");
                rest.push_str(piece);
            }
            rest
        }
        false => shown.to_owned(),
    };
    let bad = ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{200b}'];
    assert!(!rest.contains(bad), "{what}: {shown:?}");
    assert!(!rest.replace("\r\n", "").contains('\r'), "{what}: {shown:?}");
}

fn store(at: &Path) {
    let mut writer = Writer::new("hostile", "executor", HOSTILE, HOSTILE);
    writer.application = HOSTILE;
    writer.segment().start(1, 0, 0, 0).end(1, 0, 0, 3).finish(4);
    writer.save(&at.join("records"));
    let log = format!(
        "{{\"Event\":\"SparkListenerApplicationStart\",\"App ID\":{0},\"App Name\":{0}}}\n\
         {{\"Event\":\"SparkListenerStageSubmitted\",\"Stage Info\":{{\"Stage ID\":0,\"Stage Name\":{0}}}}}\n",
        serde_json::to_string(HOSTILE).unwrap()
    );
    std::fs::write(at.join("log"), log).unwrap();
    expect(at, 0, &["ingest", "records", "--event-log", "log"]);
}

#[test]
fn every_format_is_harmless_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    store(at);
    let record = std::fs::read_dir(at.join("records")).unwrap().next().unwrap().unwrap().path();
    let record = record.to_str().unwrap();
    for by in ["node", "executor", "app", "stage", "process", "thread"] {
        for format in ["table", "csv", "json", "markdown", "html"] {
            let command = ["report", "--by", by, "--format", format];
            let shown = Terminal::start(at, &command).all();
            is_harmless(&shown, format == "table", &format!("{command:?}"));
            assert!(shown.contains("pwned") || ["process", "thread"].contains(&by), "{shown:?}");
        }
    }
    for command in [
        &["export", "--to", "prometheus", "--by", "app,node"][..],
        &["export", "--to", "chrome"],
        &["dump", record],
        &["dump", "--format", "json", record],
        &["top", "--once", "records"],
        &["top", "--once", "--format", "json", "records"],
        &["diff", "sparkanalyzer-store", "sparkanalyzer-store"],
        &["diff", "sparkanalyzer-store", "sparkanalyzer-store", "--format", "json"],
        &["report", "--spread"],
    ] {
        let shown = Terminal::start(at, command).all();
        is_harmless(&shown, true, &format!("{command:?}"));
    }
}

/// In a file or a pipe data stays as it is.
#[test]
fn data_in_pipes_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    store(at);
    let (csv, _) = expect(at, 0, &["report", "--by", "node", "--format", "csv"]);
    assert!(csv.contains(HOSTILE), "{csv:?}");
    let (json, _) = expect(at, 0, &["report", "--by", "node", "--format", "json"]);
    assert!(json.contains("\\u001b]0;pwned"), "{json:?}");
}

#[test]
fn messages_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    store(at);
    std::fs::write(at.join(format!("{HOSTILE}.sar")), "x").unwrap();
    let file = format!("{HOSTILE}.sar");
    for command in [
        &["dump", &file][..],
        &["ingest", &file],
        &["ingest", "--event-log", &file],
        &["ingest", HOSTILE],
        &["inspect", &file],
        &["report", "--store", HOSTILE],
        &["report", "--app", HOSTILE, "--store", "nowhere"],
        &["report", "-o", &format!("nowhere/{HOSTILE}")],
        &["diff", &format!("#{HOSTILE}x"), "#y"],
        &["trace", "--", HOSTILE],
        &["trace", "--conf", HOSTILE, "--", "/bin/true"],
        &["top", "--once", HOSTILE],
        &["rewrite", "--preload", "--needed", "/x.so", "--check", &file],
        &["doctor", "--conf", &file],
        &["schema", "init", "--store", HOSTILE],
    ] {
        let output = analyzer(at, command);
        assert_ne!(output.status.code(), Some(0), "{command:?}");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        is_harmless(&said, false, &format!("{command:?}"));
        // Without bars, which are drawn with escapes of their own.
        let quiet = [&["--quiet"], command].concat();
        is_harmless(&Terminal::start(at, &quiet).all(), true, &format!("{command:?}"));
    }
    let rogue = Rogue::start(|mut talk| {
        talk.say(&[b"\xff\x15\x04#28000", HOSTILE.as_bytes()].concat());
        talk.hear();
    });
    let url = format!("mysql://me@127.0.0.1:{}/x", rogue.port);
    let said = analyzer(at, &["report", "--store", &url]).stderr;
    is_harmless(&String::from_utf8(said).unwrap(), false, "a server's error");
    drop(rogue.heard());
}

/// What a spreadsheet would take for a formula, wherever it stands in a cell.
#[test]
fn csv_has_no_formulas() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (number, name) in ["=1+1", "a;=1+1", "a\t@x", "a\n-1", "b; \"+1"].into_iter().enumerate() {
        let mut writer = Writer::new(&format!("w{number}"), "executor", name, "1");
        writer.segment().start(1, 0, 0, 0).end(1, 0, 0, 3).finish(4);
        writer.save(&at.join(format!("records{number}")));
        expect(at, 0, &["ingest", &format!("records{number}")]);
    }
    let (csv, _) =
        expect(at, 0, &["report", "--by", "node", "--format", "csv", "--columns", "tasks"]);
    for harmless in ["'=1+1,", "a;'=1+1,", "a\t'@x,", "a\n'-1", "b; \"\"'+1"] {
        assert!(csv.contains(harmless), "{harmless:?}: {csv:?}");
    }
}
