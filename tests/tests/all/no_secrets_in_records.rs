//! What the library writes has no secrets: neither the files nor their names.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::artifacts;

/// Part of every secret here.
const SECRET: &str = "hunter2";

/// Everything below a folder, with its path.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).expect("reads");
            found.push((path.to_string_lossy().into_owned(), bytes));
        }
    }
    found
}

#[test]
fn paths_arguments_and_variables_hold_no_secret() {
    let Some(artifacts) = artifacts::need("paths_arguments_and_variables_hold_no_secret") else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let hidden = directory.path().join("secret").join(format!("{SECRET}-path"));
    std::fs::create_dir_all(&hidden).expect("made");
    let tool = hidden.join("tool");
    std::fs::copy("/bin/cat", &tool).expect("copied");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let records = directory.path().join("records");
    std::fs::create_dir(&records).expect("made");
    // Executed in place of a forked child, by vfork, as a child, and itself.
    let tool = tool.to_str().expect("UTF-8");
    let script = format!(
        "({tool} </dev/null); xargs -n 1 {tool} </dev/null; {tool} /etc/hostname >/dev/null; exec {tool} /dev/null"
    );
    // In a file: the text of `sh -c` is stored as it is, but for what looks like a setting.
    let file = directory.path().join("script");
    std::fs::write(&file, script).expect("written");
    let output = Command::new("/bin/bash")
        .arg(&file)
        .args(["--password", &format!("{SECRET}-argument")])
        .env("LD_PRELOAD", &artifacts.shim)
        .env("SPARKANALYZER_TRACE", "1")
        .env("SPARKANALYZER_ENABLED", "all")
        .env("SPARKANALYZER_OUTPUT_DIR", &records)
        .env("SPARKANALYZER_FILE_NAME", "%{API_TOKEN}-%{PLAIN}")
        .env("API_TOKEN", format!("{SECRET}-name"))
        .env("PLAIN", "visible")
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    assert!(output.status.success(), "{output:?}");
    let files = files(&records);
    assert!(files.len() >= 3, "{} record files", files.len());
    for (name, bytes) in &files {
        assert!(name.contains("redacted-visible"), "{name}");
        assert!(!name.contains(SECRET), "{name}");
        let text = String::from_utf8_lossy(bytes);
        if let Some(at) = text.find(SECRET) {
            let begin = text[..at].char_indices().rev().nth(80).map_or(0, |(at, _)| at);
            panic!("{name}: ...{}", text[begin..].chars().take(120).collect::<String>());
        }
    }
}
