"""What counting costs Spark jobs: wall time, CPU time of the tasks' threads and of everything else, against no library.

    spark.py [--rounds 3] [--settings NAME,...] [--jobs NAME,...] [--starts 20] [--times 1]

The demo's word count (27 MB of prose) and its join of 1.5 million ratings with 5,000 movies, in local mode with two
threads, or of `--times` as much text and as many ratings; the settings take turns within a round. Shown are medians,
and of ratios to the native run of the same round the median, the least and the greatest:

    native    without the library
    off       the library, no tracer: system calls alone
    task      the default: threads followed from their task's start to its end
    whole     every thread of the process followed

A task's CPU time is what Spark measures of its thread; «other» is the rest of the JVM's: compilers, collectors, start-up,
planning. Prints a Markdown table. Exit code 1 where results differ.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "demo"), str(ROOT / "tests" / "spark")]

import ratings  # noqa: E402
import spark_runs  # noqa: E402

SETTINGS = {
    "native": None,
    "off": {"SPARKANALYZER_TRACER": "none"},
    "task": {},
    "whole": {"SPARKANALYZER_SCOPE": "process"},
}
EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"


def inputs(times, scratch):
    """Arguments of each job, but for the output directory; what it reads most of is there a number of times."""
    for name in spark_runs.fetch.missing(["text"]):
        spark_runs.fetch.get([name])
    data = spark_runs.fetch.CACHE / "ratings"
    if not (data / "ratings.csv").exists():
        ratings.write(data)
    jobs = ROOT / "demo" / "jobs"
    text, rows = (repeated(file, times, scratch) for file in (spark_runs.fetch.place("text"), data / "ratings.csv"))
    return {
        "word count": (jobs / "word_count.py", f"file://{text}"),
        "join": (jobs / "genre_ratings.py", f"file://{rows}", f"file://{data}/movies.csv"),
    }


def repeated(file, times, scratch):
    """A file, or a directory that has it a number of times."""
    if times == 1:
        return file
    directory = scratch / f"{file.stem}-x{times}"
    directory.mkdir()
    for number in range(times):
        (directory / f"{number}{file.suffix}").symlink_to(file)
    return directory


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(spark, job, setting, scratch):
    """Seconds: wall, tasks' CPU, other CPU; and the result."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    events = directory / "events"
    events.mkdir()
    alone = spark_runs.standalone.Cluster(spark.home, directory / "cluster", spark.java)
    alone.work.mkdir(parents=True)
    environment = alone.environment(alone.prepare_driver())
    if SETTINGS[setting] is not None:
        environment.update(LD_PRELOAD=str(spark_runs.SHIM), SPARKANALYZER_OUTPUT_DIR=str(directory / "records"), **SETTINGS[setting])
    conf = ["spark.eventLog.enabled=true", f"spark.eventLog.dir=file://{events}", "spark.eventLog.compress=false"]
    conf += ["spark.eventLog.rolling.enabled=false", "spark.sql.shuffle.partitions=4", "spark.sql.files.maxPartitionBytes=4m"]
    command = [spark.home / "bin" / "spark-submit", "--master", "local[2]"]
    command += [part for one in conf for part in ("--conf", one)]
    command += [*job, f"file://{directory}/out"]
    cpu, begin = cpu_of_children(), time.monotonic()
    spark_runs.run_to_end(command, environment, directory / "submit.log")
    wall, cpu = time.monotonic() - begin, cpu_of_children() - cpu
    log = spark_runs.EventLog(events)
    keys = ("Executor CPU Time", "Executor Deserialize CPU Time")
    tasks = sum(event["Task Metrics"][key] for event in log.tasks.values() for key in keys) / 1e9
    result = spark_runs.results(directory / "out")
    shutil.rmtree(directory)
    return (wall, tasks, cpu - tasks), result


def compared(runs, native):
    """Each run's figures divided by those of the native run of its round: what slows the machine down slows both."""
    return [[value / base for value, base in zip(*pair)] for pair in zip(runs, native)]


def ratio(rounds):
    """The median of the rounds' ratios, and the least and the greatest."""
    if len(rounds) == 1:
        return f"{rounds[0]:.2f}"
    return f"{statistics.median(rounds):.2f} ({min(rounds):.2f}-{max(rounds):.2f})"


def starts(spark, count, scratch):
    """Milliseconds of wall and CPU time that an executor's JVM takes until it finds that it has no arguments."""
    program = pathlib.Path(spark.java) / "bin" / "java"
    command = [program, "-cp", f"{spark.home}/jars/*", "-Xmx512m", EXECUTOR]
    preloaded = {"LD_PRELOAD": str(spark_runs.SHIM), "SPARKANALYZER_OUTPUT_DIR": str(scratch / "starts")}
    found = {"native": [], "task": []}
    for _ in range(count):
        for setting, more in (("native", {}), ("task", preloaded)):
            cpu, begin = cpu_of_children(), time.monotonic()
            subprocess.run(command, env={**os.environ, **more}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            found[setting].append((1000 * (time.monotonic() - begin), 1000 * (cpu_of_children() - cpu)))
    return {setting: [statistics.median(column) for column in zip(*rows)] for setting, rows in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--jobs", default="word count,join")
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--times", type=int, default=1, help="as much text, and as many ratings")
    parser.add_argument("--json", type=pathlib.Path, help="append every single run to this file")
    options = parser.parse_args()
    # The loader only warns of a library that is not there, and nothing would be measured.
    if not spark_runs.SHIM.exists():
        sys.exit(f"{spark_runs.SHIM} is missing; ./run build makes it")
    spark_runs.standalone.stop_on_signals()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="sparkanalyzer-bench-"))
    wrong = []
    try:
        spark = spark_runs.prepare(spark_runs.VERSIONS[0], scratch)
        jobs = {name: job for name, job in inputs(options.times, scratch).items() if name in options.jobs.split(",")}
        print("| job | setting | wall, s | tasks' CPU, s | other CPU, s | wall | tasks' CPU | other CPU |")
        print("|---|---|---|---|---|---|---|---|")
        for name, job in jobs.items():
            settings = options.settings.split(",")
            times, results = {setting: [] for setting in settings}, {}
            for _ in range(options.rounds):
                for setting in settings:
                    figures, result = run(spark, job, setting, scratch)
                    times[setting].append(figures)
                    if options.json:
                        with open(options.json, "a", encoding="utf-8") as out:
                            out.write(json.dumps([name, setting, *figures]) + "\n")
                    if results.setdefault("first", result) != result:
                        wrong.append(f"{name}, {setting}")
            for setting, runs in times.items():
                cells = [f"{statistics.median(column):.1f}" for column in zip(*runs)]
                cells += [ratio(column) for column in zip(*compared(runs, times.get("native", ())))] or ["-"] * 3
                print(f"| {name} | {setting} | {' | '.join(cells)} |", flush=True)
        if options.starts:
            found = starts(spark, options.starts, scratch)
            more = [after - before for before, after in zip(found["native"], found["task"])]
            print(f"\nAn executor's start: {found['native'][0]:.0f} ms wall natively, {more[0]:+.0f} ms preloaded; CPU {more[1]:+.0f} ms")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for one in wrong:
        print(f"FAIL: other results than the first run's: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
