"""The programs of the matrix: what is started, with how much work, and what must be the same natively and traced."""

import contextlib
import hashlib
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "demo")]

from cluster import descendants  # noqa: E402

# A little work, and as little for the interpreter alone, some twenty times slower.
SIZES = {
    "Churn": (50_000, 5_000),
    "Words": (30_000, 2_000),
    "Classes": (100, 10),
    "Files": (60, 5),
    "Virtual": (150, 40),
    "Handles": (400, 40),
    "Native": (300, 60),
    "javac": (2, 1),
    "jshell": (200_000, 5_000),
    "Watched": (50_000, 2_000),
}
CLASSES = ("Churn", "Words", "Classes", "Files", "Virtual", "Handles", "Native", "Watched")
# What is asked of Watched while it runs; PID and FOLDER stand for themselves.
QUESTIONS = (
    ("jcmd", "PID", "JFR.start", "name=watched", "settings=profile"),
    ("jstack", "-l", "PID"),
    ("jcmd", "PID", "GC.heap_dump", "FOLDER/heap.hprof"),
    ("jcmd", "PID", "Thread.print"),
    ("jcmd", "PID", "GC.class_histogram"),
    ("jcmd", "PID", "Compiler.codecache"),
    ("jcmd", "PID", "JFR.dump", "name=watched", "filename=FOLDER/watched.jfr"),
    ("jcmd", "PID", "JFR.stop", "name=watched"),
)
ANSWER_SECONDS = 120


class Missing(Exception):
    """A program cannot be run here; the message says why."""


class Failure(Exception):
    """A program hangs, or does not answer what it answers natively."""


class Run:
    """What a program gave: what must not differ, what it said on stderr, the CPU time of it and its children."""

    def __init__(self, same, complaint, seconds):
        self.same, self.complaint, self.cpu_seconds = same, complaint, seconds


class Programs:
    """The programs, compiled into a folder, which is theirs to write to."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        sources = [HERE / f"{name}.java" for name in CLASSES]
        subprocess.run(["javac", "-nowarn", "--release", "11", "-d", folder, *sources], check=True, stderr=subprocess.DEVNULL)
        include = pathlib.Path(shutil.which("javac")).resolve().parent.parent / "include"
        self.library = self.folder / "native.so"
        flags = ["-O2", "-shared", "-fPIC", f"-I{include}", f"-I{include / 'linux'}"]
        subprocess.run(["cc", *flags, "-o", self.library, HERE / "native.c"], check=True)

    def command(self, program, size, home, flags):
        """How a program is started on the Java in `home`; what it writes goes below the folder's `out`."""
        java = home / "bin" / "java"
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        if program == "jshell":
            tool = self.tool(home, "jshell")
            script = self.folder / "script.jsh"
            script.write_text(JSHELL_SCRIPT.format(rounds=size), encoding="utf-8")
            own = [f"-J{flag}" for flag in (*flags, f"-Djava.util.prefs.userRoot={self.folder}")]
            return [tool, *own, *(f"-R{flag}" for flag in flags), "-s", script]
        if program == "javac":
            source = self.folder / "Large.java"
            source.write_text(large_source(size), encoding="utf-8")
            return [self.tool(home, "javac"), *(f"-J{flag}" for flag in flags), "-nowarn", "-d", out, source]
        return [java, *flags, f"-Dnative.library={self.library}", "-cp", self.folder, program, str(size)]

    @staticmethod
    def tool(home, name):
        """A program that only a whole JDK has."""
        if not (home / "bin" / name).exists():
            raise Missing(f"this Java has no {name}")
        return home / "bin" / name

    def run(self, program, size, home, flags, seconds, before=(), environment=None):
        """Runs a program to its end, behind `before`, in this environment."""
        command = [*map(str, before), *map(str, self.command(program, size, home, flags))]
        begin, answers = cpu_seconds(), ()
        output, complaint = self.folder / "stdout", self.folder / "stderr"
        with open(output, "wb") as out, open(complaint, "wb") as err:
            running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment, start_new_session=True)
            try:
                if program == "Watched":
                    answers = list(self.answers(running, home))
                    running.stdin.write(b"enough")
                running.stdin.close()
                running.wait(seconds)
            except subprocess.TimeoutExpired as error:
                raise Failure(f"no end within {error.timeout:.0f} s: {error.cmd}; {threads_of(running)}") from None
            finally:
                if running.poll() is None:
                    os.killpg(running.pid, signal.SIGKILL)
                    running.wait()
        shown = output.read_text(encoding="utf-8", errors="replace")
        if program == "javac":
            shown += digest(self.folder / "out")
        complaint = complaint.read_text(encoding="utf-8", errors="replace")
        return Run((shown, running.returncode, *answers), complaint, cpu_seconds() - begin)

    def answers(self, running, home):
        """Asks a JVM everything; for each question whether it was answered."""
        pid = java_below(running)
        for tool, *words in QUESTIONS:
            words = [word.replace("PID", str(pid)).replace("FOLDER", str(self.folder / "out")) for word in words]
            done = subprocess.run([home / "bin" / tool, *words], capture_output=True, timeout=ANSWER_SECONDS, check=False)
            yield f"{tool} {words[-1].rpartition('/')[2]}: {done.returncode}".replace(str(pid), "PID")


def java_below(running):
    """The JVM in the process `running` or below it, once it takes signals."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline and running.poll() is None:
        for task in tasks_of(running):
            with contextlib.suppress(OSError):
                if (task / "comm").read_text(encoding="utf-8").startswith("Signal Dispatch"):
                    return int(task.parent.parent.name)
        time.sleep(0.1)
    raise Failure("no JVM that takes signals")


def tasks_of(running):
    """The threads of a process and of those below it: their directories in /proc."""
    for pid in (running.pid, *descendants(running.pid)):
        yield from pathlib.Path(f"/proc/{pid}/task").glob("*")


def threads_of(running, seconds=2):
    """What each thread of a process and of those below it does, for whoever looks for the cause of a hang: name, state, CPU
    time in ticks now and within some seconds, and the system call that it is in with its arguments."""

    def look():
        found = {}
        for task in tasks_of(running):
            with contextlib.suppress(OSError):
                name, _, rest = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
                fields = rest.split()
                call = (task / "syscall").read_text(encoding="utf-8").strip()
                found[task] = name.partition("(")[2], fields[0], int(fields[11]) + int(fields[12]), call
        return found

    before = look()
    time.sleep(seconds)
    now = look()
    lines = [
        f"{task.parent.parent.name}/{task.name} {name} {state} {ticks}+{ticks - before.get(task, now[task])[2]} [{call}]"
        for task, (name, state, ticks, call) in now.items()
    ]
    return "; ".join(lines)


def cpu_seconds():
    """The CPU time of all children that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digest(folder):
    """One checksum of all files in a folder, with their names."""
    sum_ = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sum_.update(path.name.encode() + path.read_bytes())
    return sum_.hexdigest()


JSHELL_SCRIPT = """\
long mixed(long value) {{ return value * 31 ^ value >>> 7; }}
record Pair(String left, int right) {{}}
long sum = 0;
for (int i = 0; i < {rounds}; i++) sum = mixed(sum + i);
System.out.println(sum);
var pairs = java.util.stream.IntStream.range(0, 20).mapToObj(i -> new Pair("p" + i % 7, i)).toList();
System.out.println(pairs.stream().collect(java.util.stream.Collectors.groupingBy(Pair::left, java.util.TreeMap::new, java.util.stream.Collectors.summingInt(Pair::right))));
try {{ Object o = null; o.hashCode(); }} catch (NullPointerException e) {{ System.out.println("caught"); }}
/exit
"""


def large_source(classes):
    """A Java source with so many classes, each with generics, lambdas, switches and exceptions."""
    parts = ["import java.util.*;", "import java.util.function.*;", "public class Large {"]
    for number in range(classes):
        parts.append(f"static class Part{number}<T extends Comparable<T>> implements Function<List<T>, Optional<T>> {{")
        parts.append("public Optional<T> apply(List<T> all) { return all.stream().filter(Objects::nonNull).max(Comparator.naturalOrder()); }")
        for method in range(30):
            parts.append(METHOD.format(name=f"method{method}", number=number * 31 + method))
        parts.append("}")
    return "\n".join([*parts, "}"])


METHOD = """
Map<String, Integer> {name}(int depth, List<? extends Map.Entry<String, T>> entries) {{
    Map<String, Integer> found = new TreeMap<>();
    for (var entry : entries) found.merge(entry.getKey() + {number}, entry.getValue() == null ? 0 : depth, (a, b) -> a * 31 + b);
    switch (depth % 4) {{
        case 0: return found;
        case 1: found.replaceAll((key, value) -> value ^ key.length()); break;
        default: try {{ found.put("{name}", Integer.parseInt("" + depth)); }} catch (NumberFormatException e) {{ throw new IllegalStateException(e); }}
    }}
    BiFunction<Integer, Integer, Integer> twist = (a, b) -> a * {number} + b;
    found.put("twisted", twist.andThen(value -> value >>> 3).apply(depth, found.size()));
    return found;
}}
"""
