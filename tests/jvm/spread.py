"""How much the counts of the same tasks differ between runs, with HotSpot's compilers and without.

    spread.py [--runs 5] [--tasks 400]

The tasks of tests/jvm/tasks depend on their number alone. Prints a Markdown table: the spread of a run's sum over all tasks, and of
single tasks (the median over the tasks, and the worst), as (greatest - least) / median of the runs; of the first tenth of
the tasks and of the second half, by when most is compiled.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BIN = pathlib.Path(os.environ.get("SPARKANALYZER_TEST_BIN") or TARGET / "release").resolve()
EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"


def tasks_of_a_run(classes, options, tasks):
    """TID -> instructions of the task."""
    with tempfile.TemporaryDirectory(prefix="sparkanalyzer-spread-") as records:
        environment = {**os.environ, "LD_PRELOAD": str(BIN / "libshim.so"), "SPARKANALYZER_OUTPUT_DIR": records}
        command = ["java", "-XX:+UseSerialGC", *options, "-cp", classes, EXECUTOR, str(tasks)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        (path,) = pathlib.Path(records).glob("*.sar")
        dump = [BIN / "analyzer", "dump", "--format", "json", "--metrics", "instructions", path]
        groups = json.loads(subprocess.run(dump, check=True, capture_output=True).stdout)["groups"]
    started, counts = {}, {}
    for group in groups:
        if group["kind"] == "task_start":
            started[group["tid"]] = group["values"]["instructions"]
        elif group["kind"] == "task_end":
            counts[group["task_id"]] = group["values"]["instructions"] - started[group["tid"]]
    return counts


def spread(values):
    """(greatest - least) / median, in percent."""
    return 100 * (max(values) - min(values)) / statistics.median(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=400)
    options = parser.parse_args()
    print("| | all tasks | first tenth: a task, the worst | second half: a task, the worst |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="sparkanalyzer-spread-") as classes:
        sources = ROOT / "tests" / "jvm" / "tasks"
        subprocess.run(["javac", "-d", classes, "-sourcepath", sources, sources / f"{EXECUTOR.replace('.', '/')}.java"], check=True)
        for name, java in (("compiled", []), ("interpreted (-Xint)", ["-Xint"])):
            runs = [tasks_of_a_run(classes, java, options.tasks) for _ in range(options.runs)]
            cells = [f"{spread([sum(run.values()) for run in runs]):.2f} %"]
            for tasks in (range(options.tasks // 10), range(options.tasks // 2, options.tasks)):
                of_tasks = [spread([run[task] for run in runs]) for task in tasks]
                cells.append(f"{statistics.median(of_tasks):.2f} %, {max(of_tasks):.2f} %")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
