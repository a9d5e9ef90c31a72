//! The demo's set-up on a machine without Java: it says what it will fetch, and fails in words and with the
//! documented exit code where nothing can be fetched.

use std::process::{Command, Output, Stdio};

use tests::artifacts::repository;
use tests::skip::skip;

/// `demo/fetch.py` where no Java can be found; `None` where that cannot be arranged.
fn fetch_without_java(command: &str) -> Option<Output> {
    let empty = tempfile::tempdir().expect("a directory");
    let path = empty.path().join("bin");
    std::fs::create_dir(&path).expect("makes");
    // The installed runtimes are hidden in a mount namespace of this command's own.
    let script = "if [ -d /usr/lib/jvm ]; then mount -t tmpfs none /usr/lib/jvm || exit 99; fi; \
                  exec env -i HOME=\"$2\" PATH=\"$2/bin\" PIP_INDEX_URL=http://127.0.0.1:1/simple PIP_RETRIES=0 \
                  PIP_TIMEOUT=5 SPARKANALYZER_DEMO_CACHE=\"$2/cache\" /usr/bin/python3 \"$1\" \"$3\" java";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(repository().join("demo/fetch.py"))
        .arg(empty.path())
        .arg(command)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    (output.status.code() != Some(99) && !said.contains("unshare:")).then_some(output)
}

#[test]
fn without_java_the_plan_names_one() {
    let Some(output) = fetch_without_java("plan") else {
        skip("without_java_the_plan_names_one", "no mount namespace here (not root?)");
        return;
    };
    let plan = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(plan.contains("Java 17") && plan.contains(" MB"), "{plan}");
}

#[test]
fn without_java_and_network_it_says_so() {
    let Some(output) = fetch_without_java("get") else {
        skip("without_java_and_network_it_says_so", "no mount namespace here (not root?)");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("PyPI"), "{said}");
}
