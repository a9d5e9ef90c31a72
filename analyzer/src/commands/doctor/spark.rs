//! Java and Spark as they are installed and configured here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::commands::doctor::bounded;
use crate::commands::doctor::findings::Findings;

/// How long `java -version` may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Java versions that the project's tests run.
const TESTED_JAVA: [&str; 1] = ["17"];
/// Spark versions that the project's tests run.
const TESTED_SPARK: [&str; 2] = ["3.5.", "4."];

/// Checks Java, with the library in it; its launcher, if it runs.
pub fn check_java(
    findings: &mut Findings,
    home: Option<&Path>,
    shim: Option<&Path>,
) -> Option<PathBuf> {
    let java = home.map_or_else(|| PathBuf::from("java"), |home| home.join("bin/java"));
    let mut command = Command::new(&java);
    command.arg("-version");
    if let Some(shim) = shim {
        command.env("LD_PRELOAD", shim);
    }
    let run = match bounded::run(&mut command, PATIENCE) {
        Ok(run) => run,
        Err(error) if home.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            findings.skipped("java", "no java in PATH and JAVA_HOME is not set");
            return None;
        }
        Err(error) => {
            let remedy = "set JAVA_HOME to a Java that Spark can use";
            findings.problem("java", format!("{}: {error}", java.display()), remedy);
            return None;
        }
    };
    if !run.is_success() {
        let remedy = "does it work without LD_PRELOAD? Then report this; else install Java anew";
        findings.problem("java", format!("{}: {}", java.display(), run.said()), remedy);
        return None;
    }
    // openjdk version "17.0.15" 2025-04-15; 1.8.0 is 8.
    let version = run.stderr.split('"').nth(1).unwrap_or("unknown").to_owned();
    let numbers = version.strip_prefix("1.").unwrap_or(&version);
    let major = numbers.split(['.', '-', '+', '_']).next().unwrap_or_default();
    let found = format!("{version} ({})", java.display());
    if TESTED_JAVA.contains(&major) {
        findings.good("java", found);
    } else {
        let tested = TESTED_JAVA.join(", ");
        let remedy = format!("no test has run it, only {tested}: prove it by --spark-submit-args");
        findings.warning("java", found, remedy);
    }
    Some(java)
}

/// Checks Spark's version and conf.
pub fn check(findings: &mut Findings, home: Option<&Path>) {
    let Some(home) = home else {
        return findings.skipped("spark", "SPARK_HOME is not set and no --spark-home given");
    };
    let Some(version) = version(home) else {
        let found = format!("{}: no jars/spark-core_*.jar in it", home.display());
        return findings.problem("spark", found, "name Spark's own folder by --spark-home");
    };
    let found = format!("{version} ({})", home.display());
    if TESTED_SPARK.iter().any(|tested| version.starts_with(tested)) {
        findings.good("spark", found);
    } else {
        let remedy = "no test has run it, only 3.5 and 4: prove it by --spark-submit-args";
        findings.warning("spark", found, remedy);
    }
    let folder =
        std::env::var_os("SPARK_CONF_DIR").map_or_else(|| home.join("conf"), PathBuf::from);
    let defaults = properties(&text(&folder.join("spark-defaults.conf")));
    check_event_log(findings, &folder, &defaults);
    check_switched_on(findings, &folder, &defaults);
}

/// What a file of Spark's settings holds; nothing if it cannot be read.
fn text(path: &Path) -> String {
    elf::regular_file::read_to_string(path, conf::MAX_FILE_BYTES).unwrap_or_default()
}

fn version(home: &Path) -> Option<String> {
    let names = fs::read_dir(home.join("jars")).ok()?.flatten();
    names.filter_map(|entry| entry.file_name().into_string().ok()).find_map(|name| {
        // spark-core_2.13-4.3.0.jar
        let rest = name.strip_prefix("spark-core_")?.strip_suffix(".jar")?;
        Some(rest.split_once('-')?.1.to_owned())
    })
}

/// Keys and values of a file like spark-defaults.conf.
fn properties(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let line = line.trim();
        let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
        let value = line[end..].trim_start_matches(|c: char| c.is_whitespace() || c == '=');
        (!line.starts_with('#')).then(|| (line[..end].to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

fn check_event_log(findings: &mut Findings, folder: &Path, defaults: &BTreeMap<String, String>) {
    let file = folder.join("spark-defaults.conf");
    if defaults.get("spark.eventLog.enabled").map(String::as_str) != Some("true") {
        return findings.warning(
            "event log",
            format!(
                "{} does not switch it on: Spark's own figures would be unknown",
                file.display()
            ),
            "spark.eventLog.enabled true there, or as --conf of the job",
        );
    }
    let folder =
        defaults.get("spark.eventLog.dir").map_or("file:///tmp/spark-events", String::as_str);
    let local = folder.strip_prefix("file://").or_else(|| folder.strip_prefix("file:"));
    let local = local.or_else(|| folder.starts_with('/').then_some(folder));
    match local {
        Some(path) if !Path::new(path).is_dir() => findings.warning(
            "event log",
            format!("spark.eventLog.dir is {folder}, which is no folder here: jobs fail to start"),
            format!("mkdir -p {path}, writable by those who run jobs"),
        ),
        _ => findings.good("event log", format!("on, in {folder}")),
    }
}

/// Whether one of the usual places preloads the library.
fn check_switched_on(findings: &mut Findings, folder: &Path, defaults: &BTreeMap<String, String>) {
    let script = text(&folder.join("spark-env.sh"));
    let in_script = script.lines().map(str::trim).find(|line| {
        !line.starts_with('#') && line.contains("LD_PRELOAD") && line.contains("libshim.so")
    });
    let in_defaults = defaults.get("spark.executorEnv.LD_PRELOAD");
    let (place, text) = match (in_defaults, in_script) {
        (Some(text), _) => ("spark-defaults.conf", text.as_str()),
        (None, Some(text)) => ("spark-env.sh", text),
        (None, None) => {
            return findings.warning(
                "switched on",
                format!(
                    "neither spark-defaults.conf nor spark-env.sh in {} preloads it",
                    folder.display()
                ),
                "analyzer spark-conf prints what to set; or give it as --conf of a job",
            );
        }
    };
    let words = text.split([' ', ':', '=', '"', '\'', '$', '{', '}']);
    let mut missing =
        words.filter(|word| word.ends_with("libshim.so") && !Path::new(word).exists());
    match missing.next_back() {
        Some(path) => findings.problem(
            "switched on",
            format!(
                "{place} names {path}, which is not there: every process says so on standard error"
            ),
            "install the library at that path on every node, or correct it",
        ),
        None => findings.good("switched on", format!("by {place} in {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_spark_does() {
        let read = properties("# a b\nspark.a  true\nspark.b=x y\n  spark.c : 1\n\nnothing\n");
        assert_eq!(read.get("spark.a").map(String::as_str), Some("true"));
        assert_eq!(read.get("spark.b").map(String::as_str), Some("x y"));
        assert_eq!(read.len(), 3);
    }
}
