//! Code that comes, changes and goes: never executed stale, and the cache's memory is used again.

use std::path::Path;

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::run::{self, Traced, Tracing};

fn same_and_complete(
    test: &str,
    program: &Path,
    arguments: &[&str],
    memory_limit_mib: u32,
) -> Option<Traced> {
    let artifacts = artifacts::need(test)?;
    let native = run::native(program, arguments).expect("starts natively");
    let limit = memory_limit_mib.to_string();
    let environment = [("SPARKANALYZER_MEMORY_LIMIT_MIB", limit.as_str())];
    let tracing = Tracing { environment: &environment, ..Tracing::default() };
    let traced = tracing.run(&artifacts, program, arguments).expect("starts traced");
    let complaint = String::from_utf8_lossy(&traced.captured.stderr);
    let (ours, own) = (&traced.captured.stdout, &native.captured.stdout);
    assert_eq!(String::from_utf8_lossy(ours), String::from_utf8_lossy(own), "{complaint}");
    assert_eq!(traced.status.code(), native.status.code(), "{complaint}");
    assert!(traced.complete(), "{:#}\n{complaint}", traced.json["processes"]);
    Some(traced)
}

#[test]
fn patched_by_another_thread() {
    let program = Source::named("cross_modification.c").build(Linking::Pie);
    for _ in 0..5 {
        if same_and_complete("patched_by_another_thread", &program, &[], 64).is_none() {
            return;
        }
    }
}

#[test]
fn libraries_at_the_same_addresses() {
    let program = Source::named("libraries.c").build(Linking::Pie);
    same_and_complete("libraries_at_the_same_addresses", &program, &[], 64);
}

/// Four MiB hold a fraction of what these execute: the cache is flushed again and again, by several threads.
#[test]
fn a_cache_that_is_too_small() {
    let python = "import json, threading, zlib\n\
        def work(n):\n    results[n] = zlib.crc32(json.dumps([str(i) * 3 for i in range(9000)]).encode())\n\
        results = [0] * 4\n\
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n\
        [t.start() for t in threads]\n[t.join() for t in threads]\nprint(results)";
    let python3 = Path::new("/usr/bin/python3");
    same_and_complete("a_cache_that_is_too_small", python3, &["-c", python], 4);
    // Several threads find their code changed, and no room for what it has become.
    let program = Source::named("cross_modification.c").build(Linking::Pie);
    same_and_complete("a_cache_that_is_too_small", &program, &[], 4);
}

/// What a flush drops has been counted: with and without flushes the counts are the same.
#[test]
fn counts_outlive_a_flush() {
    // Its translations take some four MiB; two are left of a limit of four, seven of nine.
    let program = Source::named("patched_often.c").build(Linking::Pie);
    let run = |limit| {
        let traced = same_and_complete("counts_outlive_a_flush", &program, &[], limit)?;
        Some(["instructions", "memory_reads", "memory_writes"].map(|metric| traced.total(metric)))
    };
    let (Some(small), Some(large)) = (run(4), run(9)) else { return };
    assert_eq!(small, large);
}

/// Just-in-time compilers of the distribution.
#[test]
fn compilers_of_others() {
    let Some(_) = artifacts::need("compilers_of_others") else { return };
    let lua = "local t = {} for i = 1, 200000 do t[i] = (i * 7919) % 1000003 end table.sort(t) \
        local s = 0 for r = 1, 20 do for i = 1, #t do s = (s * 31 + t[i]) % 4294967296 end end print(s, #t)";
    same_and_complete("compilers_of_others", Path::new("/usr/bin/luajit"), &["-e", lua], 64);
}

/// HotSpot as a whole: interpreter, compilers and collectors, implicit null checks, stack overflows, code that is thrown
/// away, with every thread followed.
#[test]
fn hotspot_with_each_collector() {
    const TEST: &str = "hotspot_with_each_collector";
    let Some(_) = artifacts::need(TEST) else { return };
    let classes = tempfile::tempdir().expect("a directory");
    let source = artifacts::repository().join("tests/jvm/Churn.java");
    let compiled =
        std::process::Command::new("javac").arg("-d").arg(classes.path()).arg(source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        return tests::skip::skip(TEST, "no Java compiler");
    }
    let classes = classes.path().to_str().expect("UTF-8");
    for collector in ["-XX:+UseSerialGC", "-XX:+UseParallelGC", "-XX:+UseG1GC", "-XX:+UseZGC"] {
        let arguments = [collector, "-Xmx512m", "-cp", classes, "Churn"];
        same_and_complete(TEST, Path::new("/usr/bin/java"), &arguments, 64);
    }
}

/// A `java` of the JDK is told of the agent, which says what code holds still; what else is called so is left alone.
#[test]
fn java_programs_get_the_agent() {
    const TEST: &str = "java_programs_get_the_agent";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let tracing = Tracing { environment: &[("_JAVA_LAUNCHER_DEBUG", "1")], ..Tracing::default() };
    let java = Path::new("/usr/bin/java");
    if !java.exists() {
        return tests::skip::skip(TEST, "no Java");
    }
    let traced = tracing.run(&artifacts, java, &["-version"]).expect("starts traced");
    let shown = String::from_utf8_lossy(&traced.captured.stdout);
    let option = format!("'-agentpath:{}'", artifacts.shim.display());
    assert!(shown.contains(&option) && traced.complete(), "{shown}");

    let place = tempfile::tempdir().expect("a directory");
    let other = place.path().join("java");
    tests::program_file::copy(Path::new("/bin/echo"), &other);
    let traced = tracing.run(&artifacts, &other, &["-version"]).expect("starts traced");
    assert_eq!(traced.captured.stdout, b"-version\n");
}
