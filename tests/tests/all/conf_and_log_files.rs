//! What lies in the place of the conf file or of the log file may be anything, and what is said may hold anything:
//! the program does not notice, and a line of the log stays a line.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tests::artifacts;
use tests::preloaded::shown;
use tests::worker_of_user::{OTHER, Stage, finished, make_node, own, records, set_mode};

#[test]
fn a_fifo_or_device_as_conf() {
    let Some(artifacts) = artifacts::need("a_fifo_or_device_as_conf") else { return };
    let Some(stage) = Stage::new("a_fifo_or_device_as_conf", &artifacts) else { return };
    let folder = stage.folder("records", 0, 0, 0o1777);
    make_node(&stage.path("fifo"), &["p"]);
    make_node(&stage.path("zero"), &["c", "1", "5"]);
    stage.folder("folder", 0, 0, 0o755);
    for (name, why) in
        [("fifo", "it is a FIFO"), ("zero", "it is a device"), ("folder", "it is a folder")]
    {
        let path = stage.path(name);
        let conf = ("SPARKANALYZER_CONF", path.to_str().expect("plain"));
        for user in [0, OTHER] {
            let (said, files) = stage.run(user, &folder, &[conf]);
            assert_eq!((files, said.lines().count()), (0, 1), "{name}: {said}");
            assert!(said.contains(conf.1) && said.contains(why), "{name}: {said}");
        }
        // The analyzer looks before it runs anything.
        let output = Command::new("timeout")
            .arg("20")
            .arg(&artifacts.analyzer)
            .args(["trace", "--shim"])
            .arg(stage.path("libshim.so"))
            .arg("--conf")
            .arg(&path)
            .args(["--", "/bin/true"])
            .output()
            .expect("starts");
        assert_eq!(output.status.code(), Some(3), "{name}: {}", shown(&output));
        assert!(shown(&output).contains(why), "{name}: {}", shown(&output));
    }
}

#[test]
fn only_a_file_of_ones_own_is_a_log() {
    let Some(artifacts) = artifacts::need("only_a_file_of_ones_own_is_a_log") else { return };
    let Some(stage) = Stage::new("only_a_file_of_ones_own_is_a_log", &artifacts) else { return };
    let folder = stage.folder("records", 0, 0, 0o1777);
    let logs = stage.folder("logs", 0, 0, 0o1777);
    let run = |user: u32, log: &Path| {
        let log = log.to_str().expect("plain");
        let level = ("SPARKANALYZER_LOG_LEVEL", "debug");
        stage.run(user, &folder, &[("SPARKANALYZER_LOG_FILE", log), level]).0
    };
    let refused = |log: &Path, why: &str| {
        let said = run(0, log);
        assert_eq!(said.lines().count(), 1, "{}: {said}", log.display());
        assert!(said.contains("log_file") && said.contains(why), "{}: {said}", log.display());
    };
    // Nobody reads it; then somebody does, and gets nothing.
    let fifo = logs.join("fifo");
    make_node(&fifo, &["p"]);
    refused(&fifo, "it is a FIFO");
    let mut reader =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("opens");
    refused(&fifo, "it is a FIFO");
    let mut got = Vec::new();
    assert_eq!(reader.read_to_end(&mut got).expect("no writer"), 0);
    let device = logs.join("device");
    make_node(&device, &["c", "1", "3"]);
    refused(&device, "it is a device");
    let (precious, link) = (logs.join("precious"), logs.join("link"));
    fs::write(&precious, "as it was\n").expect("written");
    symlink(&precious, &link).expect("a link");
    refused(&link, "it is a symbolic link");
    let of_other = logs.join("of_other");
    File::create(&of_other).expect("a file");
    own(&of_other, OTHER, OTHER);
    set_mode(&of_other, 0o666);
    refused(&of_other, "belongs to user 12345");
    assert_eq!(fs::read_to_string(&precious).expect("reads"), "as it was\n");
    assert_eq!(fs::metadata(&of_other).expect("is there").len(), 0);
    // Root's for all, one's own, and one that is not there yet.
    let of_root = logs.join("of_root");
    File::create(&of_root).expect("a file");
    set_mode(&of_root, 0o666);
    for (user, log) in [(OTHER, &of_root), (OTHER, &of_other), (OTHER, &logs.join("new"))] {
        assert_eq!(run(user, log), "", "{}", log.display());
        let text = fs::read_to_string(log).expect("reads");
        assert!(text.contains("counting as python"), "{}: {text}", log.display());
    }
}

#[test]
fn lines_of_the_log_are_escaped() {
    let Some(artifacts) = artifacts::need("lines_of_the_log_are_escaped") else { return };
    let Some(stage) = Stage::new("lines_of_the_log_are_escaped", &artifacts) else { return };
    // A name that fakes a line, moves the cursor, and is no text at its end.
    let name = OsStr::from_bytes(b"a\nsparkanalyzer[1]: fine\x1b[2J\r\xff\xc3");
    let written = r"a\nsparkanalyzer[1]: fine\u{1b}[2J\r\xff\xc3";
    let mut worker = stage.worker(OTHER);
    worker.env("SPARKANALYZER_CONF", stage.path("not/there").join(name));
    let said = String::from_utf8(finished(&mut worker).stderr).expect("text");
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(said.contains(written) && !said.contains(['\x1b', '\r']), "{said:?}");
    // A path that is no text is opened as it is.
    let conf = stage.path("").join(OsStr::from_bytes(b"conf-\xff.toml"));
    fs::write(&conf, "file_name = \"by_conf\"\n").expect("written");
    let folder = stage.folder("records", 0, 0, 0o1777);
    let mut worker = stage.worker(OTHER);
    worker.env("SPARKANALYZER_CONF", &conf).env("SPARKANALYZER_OUTPUT_DIR", &folder);
    finished(&mut worker);
    let files = records(&folder);
    assert!(
        files.len() == 1 && files[0].to_string_lossy().contains("by_conf-"),
        "the conf was read: {files:?}"
    );
    let fake = stage.path("no\nsparkanalyzer[1]: folder");
    let mut worker = stage.worker(OTHER);
    worker.env("SPARKANALYZER_OUTPUT_DIR", fake);
    let said = String::from_utf8(finished(&mut worker).stderr).expect("text");
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(said.contains(r"no\nsparkanalyzer[1]: folder"), "{said:?}");
}
