//! Servers that are absent, refuse, are full, read-only or of another schema: message, exit code, and
//! that nothing is lost. And no message ever shows a password.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::fixture::database::Server;
use crate::fixture::{Writer, analyzer, executors, expect, report};
use records::{Event, Flags};

/// Runs the analyzer with a wrong server and wants this exit code and words.
fn refused(folder: &Path, code: i32, arguments: &[&str], words: &[&str]) {
    let (stdout, stderr) = expect(folder, code, arguments);
    for word in words {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
    assert!(!stdout.contains("secret") && !stderr.contains("secret"), "{stdout}{stderr}");
}

#[test]
fn no_server_and_wrong_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let absent = "mysql://me:secret@127.0.0.1:1/runs";
    for command in [&["report"][..], &["ingest", "."], &["schema", "init"]] {
        for writer in executors() {
            writer.save(at);
        }
        let mut arguments = command.to_vec();
        arguments.extend(["--store", absent]);
        refused(at, 6, &arguments, &["mysql://127.0.0.1:1/runs", "is the server running"]);
    }
    let store = |url| ["report", "--store", url];
    refused(at, 2, &store("mysql://me:secret@db"), &["database is missing"]);
    refused(at, 2, &store("mysql://me:secret@db/x?nonsense=1"), &["nonsense"]);
    refused(at, 2, &store("mysql://me:secret@db:port/x"), &["no URL"]);
    refused(at, 2, &store("mysql://me@db/x?password_file=/nonexistent"), &["/nonexistent"]);
    refused(at, 2, &["schema", "init", "--store", "folder"], &["a folder has no schema"]);
    refused(at, 6, &store("mysql://me:secret@no-such-host.invalid/x"), &["no-such-host.invalid"]);
}

#[test]
fn rights_passwords_and_schemas() {
    let Some(server) = Server::start("rights_passwords_and_schemas", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for writer in executors() {
        writer.save(&at.join("records"));
    }
    server.sql("CREATE USER me IDENTIFIED BY 'secret'");
    let me = server.url_of("me:secret", "runs");
    let ingest = ["ingest", "--quiet", "records", "--store", &me];
    refused(at, 6, &ingest, &["Access denied", "check user"]);
    refused(at, 6, &["report", "--store", &server.url("missing")], &["CREATE DATABASE"]);
    server.sql("CREATE DATABASE runs; GRANT SELECT ON runs.* TO me");
    refused(
        at,
        6,
        &["ingest", "records", "--store", &server.url_of("me:wrong", "runs")],
        &["password"],
    );
    refused(at, 3, &ingest, &["no schema", "analyzer schema init"]);
    refused(
        at,
        3,
        &["schema", "upgrade", "--store", &server.url("runs")],
        &["analyzer schema init"],
    );
    refused(at, 4, &["schema", "init", "--store", &me], &["schema grants"]);
    let root = server.url("runs");
    expect(at, 0, &["schema", "init", "--store", &root]);
    let (again, _) = expect(at, 0, &["schema", "init", "--store", &root]);
    assert!(again.contains("already"), "{again}");
    refused(at, 4, &ingest, &["schema grants"]);
    // The rights that it prints are enough.
    let users =
        ["--ingest-user", "me", "--report-user", "reader", "--purge-user", "cleaner@localhost"];
    let (grants, _) =
        expect(at, 0, &[&["schema", "grants", "--store", &root][..], &users].concat());
    server.sql("CREATE USER reader; CREATE USER cleaner@localhost");
    server.sql(&grants);
    expect(at, 0, &ingest);
    let whole = report(at, &["--store", &server.url_of("reader", "runs")]);
    let gone = server.store("gone");
    expect(at, 0, &["ingest", "--quiet", "records", "--store", &gone]);
    server.sql(&grants.replace("`runs`", "`gone`"));
    server.sql("UPDATE gone.processes SET last_real_ns = 1");
    let purge = |user| {
        let store = server.url_of(user, "gone");
        ["purge", "--older-than", "1d", "--store", &store].map(str::to_owned)
    };
    refused(at, 4, &purge("reader").each_ref().map(String::as_str), &["schema grants"]);
    let (purged, _) = expect(at, 0, &purge("cleaner").each_ref().map(String::as_str));
    assert!(purged.contains("2 processes"), "{purged}");
    // The password may come from a file or the environment.
    std::fs::write(at.join("password"), "secret\n").unwrap();
    let bare = server.url_of("me", "runs");
    let from_file = format!("{bare}&password_file={}", at.join("password").display());
    assert_eq!(report(at, &["--store", &from_file]), whole);
    let output = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
        .args(["report", "--format", "json", "--store", &bare])
        .env("SPARKANALYZER_MYSQL_PASSWORD", "secret")
        .output()
        .unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), whole);
    // A schema of version 1, as it is when an init was killed before its views.
    server.sql(
        "DELETE FROM runs.schema_version WHERE version >= 2; DROP TABLE runs.snapshots; \
         DROP VIEW runs.stage_summary, runs.node_stage_summary, runs.task_summary, runs.node_summary",
    );
    refused(at, 3, &ingest, &["version 1", "analyzer schema upgrade"]);
    refused(at, 3, &["schema", "init", "--store", &root], &["analyzer schema upgrade"]);
    let (upgraded, _) = expect(at, 0, &["schema", "upgrade", "--store", &root]);
    assert!(upgraded.contains("from version 1 to "), "{upgraded}");
    assert_eq!(report(at, &["--store", &root]), whole, "rows stay");
    assert_ne!(server.sql("SELECT COUNT(*) FROM runs.task_summary").trim(), "0");
    server.sql("INSERT INTO runs.schema_version (version) VALUES (99)");
    refused(at, 3, &["report", "--store", &root], &["version 99", "newer"]);
    refused(at, 3, &["schema", "upgrade", "--store", &root], &["version 99", "newer"]);
}

/// With a certificate to trust in the URL, the connection is TLS or none.
#[test]
fn tls_and_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for name in ["trusted", "other"] {
        let made = Command::new("openssl")
            .current_dir(at)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
            .output();
        let Ok(made) = made else {
            return tests::skip::skip(
                "tls_and_certificates",
                "no openssl (apt-get install openssl)",
            );
        };
        assert!(made.status.success(), "{made:?}");
    }
    let file = |name: &str| at.join(name).display().to_string();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = [
        format!("--ssl-cert={}", file("trusted.pem")),
        format!("--ssl-key={}", file("trusted.key")),
        "--skip-networking=0".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--port={port}"),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let Some(server) = Server::start("tls_and_certificates", &options) else { return };
    server.sql("CREATE DATABASE runs; CREATE USER me REQUIRE SSL; GRANT ALL ON runs.* TO me");
    let url = |trust: &str| format!("mysql://me@localhost:{port}/runs{trust}");
    refused(at, 6, &["schema", "init", "--store", &url("")], &["Access denied"]);
    let other = url(&format!("?root_cert_path={}", file("other.pem")));
    refused(at, 6, &["schema", "init", "--store", &other], &["certificate"]);
    let trusted = url(&format!("?root_cert_path={}", file("trusted.pem")));
    expect(at, 0, &["schema", "init", "--store", &trusted]);
}

#[test]
fn read_only_servers() {
    let Some(server) = Server::start("read_only_servers", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, other] = executors();
    one.save(&at.join("one"));
    other.save(&at.join("other"));
    let url = server.store("runs");
    expect(at, 0, &["ingest", "--quiet", "one", "--store", &url]);
    server.sql("CREATE USER me; GRANT SELECT, INSERT, UPDATE ON runs.* TO me");
    server.sql("SET GLOBAL read_only = 1");
    let me = server.url_of("me", "runs");
    let before = report(at, &["--store", &me]);
    refused(at, 4, &["ingest", "--quiet", "other", "--store", &me], &["read-only", "primary"]);
    assert_eq!(report(at, &["--store", &me]), before);
    server.sql("SET GLOBAL read_only = 0");
    expect(at, 0, &["ingest", "--quiet", "other", "--store", &me]);
    expect(at, 0, &["ingest", "--quiet", "one", "other", "--store", "parquet"]);
    assert_eq!(report(at, &["--store", &me]), report(at, &["--store", "parquet"]));
}

/// All tables in one file that must not grow: the server is soon full.
#[test]
fn full_servers() {
    let options =
        ["--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:24M"];
    let Some(server) = Server::start("full_servers", &options) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, _] = executors();
    one.save(&at.join("one"));
    let mut big = Writer::new("big", "executor", "node-7", "3");
    big.segment();
    for task in 0..15_000 {
        big.start(101, task, 0, task as u64);
        big.end(101, task, 0, task as u64 + 1);
    }
    big.put(101, Flags::FINAL, &Event::ThreadEnd, None);
    big.save(&at.join("big"));
    let url = server.store("runs");
    expect(at, 0, &["ingest", "--quiet", "one", "--store", &url]);
    let before = report(at, &["--store", &url]);
    refused(
        at,
        4,
        &["ingest", "--quiet", "big", "--store", &url],
        &["full", "goes on where it stopped"],
    );
    assert_eq!(report(at, &["--store", &url]), before);
    let output = analyzer(at, &["ingest", "--quiet", "one", "--store", &url]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    assert_eq!(report(at, &["--store", &url]), before);
}
