"""One small Spark job again and again, its tasks counted: no run may differ from one without the library.

    soak.py [--runs 200] [--minutes N] [--state FILE] [--java-options=-Xint] [--rows 100000]

Every run is a JVM of its own in local mode. Its result must be that of the run without the library, byte for byte; the
event log's tasks must all have their records, with counts; nobody may have been released. What was done is
kept in FILE, one line of JSON per run with the library's checksum, so that a later call goes on where
this one ended. Prints a line per run that failed, then one for all; exit code 1 if one failed.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import spark_runs  # noqa: E402

TASKS = 4


def one_run(spark, number, rows, java_options):
    """The tasks of one run and what they executed; AssertionError where something is not as it must be."""
    arguments = (TASKS, rows)
    more = ("--driver-java-options", java_options) if java_options else ()
    name = f"run-{number}"
    out = spark.scratch / name / "out"
    spark.local(name, "sums.py", [*arguments, f"file://{out}"], preload=spark_runs.SHIM, more=more)
    records, log = spark.records(name), spark.event_log(name)
    spark_runs.must_agree(records, log)
    released = [record.details["text"] for record in records.of("notice") if record.details["code"] != "vfork_child"]
    assert not released, f"notices: {released}"
    assert spark_runs.results(out) == spark.reference("sums.py", arguments), "results differ"
    ends = {end.details["task_id"]: end.values["instructions"] for end in records.of("task_end")}
    starts = {start.details["task_id"]: start.values["instructions"] for start in records.of("task_start")}
    shutil.rmtree(spark.scratch / name)
    return len(log.tasks), sum(ends.values()) - sum(starts.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--state", type=pathlib.Path, default=spark_runs.ROOT / ".cache" / "soak" / "spark.jsonl")
    parser.add_argument("--java-options", default="", help="for the JVM: counts agree better without its compilers")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of each task")
    parser.add_argument("--spark", default=spark_runs.VERSIONS[0])
    options = parser.parse_args()
    spark_runs.standalone.stop_on_signals()
    library = hashlib.sha256(spark_runs.SHIM.read_bytes()).hexdigest()
    options.state.parent.mkdir(parents=True, exist_ok=True)
    done = []
    if options.state.exists():
        lines = map(json.loads, options.state.read_text(encoding="utf-8").splitlines())
        same = {"library": library, "spark": options.spark, "java_options": options.java_options, "rows": options.rows}
        done = [line for line in lines if same.items() <= line.items()]
    until = time.monotonic() + 60 * options.minutes
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="sparkanalyzer-soak-"))
    try:
        try:
            spark = spark_runs.prepare(options.spark, scratch)
        except spark_runs.Skip as reason:
            print(f"SKIP spark soak: {reason}")
            return 0
        while len(done) < options.runs and time.monotonic() < until:
            begin = time.monotonic()
            line = {"spark": options.spark, "library": library, "run": len(done) + 1}
            line.update(java_options=options.java_options, rows=options.rows)
            try:
                tasks, instructions = one_run(spark, len(done) + 1, options.rows, options.java_options)
                line.update(tasks=tasks, instructions=instructions, failure=None)
            except Exception as error:  # pylint: disable=broad-except
                line.update(failure=str(error))
                print(f"FAIL run {len(done) + 1}: {error}", flush=True)
            line["seconds"] = round(time.monotonic() - begin, 1)
            done.append(line)
            with open(options.state, "a", encoding="utf-8") as state:
                state.write(json.dumps(line) + "\n")
    finally:
        failed = [line for line in done if line["failure"]]
        if not failed:
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            print(f"kept: {scratch}")
    counts = sorted(line["instructions"] for line in done if not line["failure"])
    spread = f"; instructions of all tasks {counts[0]:.4g} to {counts[-1]:.4g}" if counts else ""
    print(f"{'FAIL' if failed else 'PASS'} spark {options.spark}: {len(done)} of {options.runs} runs, {len(failed)} differ{spread}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
