"""Hadoop's daemons and Spark's shuffle service from Maven Central, into the project's cache folder.

    jars.py               fetches what is missing; prints the folders
    jars.py --write-list  fetches anew and writes jars.sha256, for a change of version

Maven finds out what a program needs; what it brings is compared with `jars.sha256`, which names every file: a missing,
an additional or a changed one is refused. A folder appears only when it is complete.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "demo")]

import fetch  # noqa: E402

LIST = HERE / "jars.sha256"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
FETCH_SECONDS = 900

# folder: (group, version, artifacts, artifacts to leave out)
SETS = {
    "hadoop-3.4.2": (
        "org.apache.hadoop",
        "3.4.2",
        (
            "hadoop-common",
            "hadoop-hdfs",
            "hadoop-hdfs-client",
            "hadoop-yarn-client",
            "hadoop-yarn-server-nodemanager",
            "hadoop-yarn-server-resourcemanager",
            "hadoop-yarn-server-timelineservice",
        ),
        (),
    ),
    # The newest that is there. Its protocol is that of Spark 4, and its classes run on Java 8. RocksDB (60 MB) is for the
    # recovery of a NodeManager, which is off here; its log goes where the NodeManager's does.
    "shuffle-3.5.5": (
        "org.apache.spark",
        "3.5.5",
        ("spark-network-yarn_2.12", "spark-network-shuffle_2.12"),
        (
            "rocksdbjni",
            "scala-library",
            "slf4j-api",
            "jcl-over-slf4j",
            "jul-to-slf4j",
            "log4j-1.2-api",
            "log4j-api",
            "log4j-core",
            "log4j-slf4j2-impl",
        ),
    ),
}

DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>sparkanalyzer</groupId><artifactId>{}</artifactId><version>1</version>
<dependencies>{}</dependencies></project>
"""


def place(name):
    """Where a set's jars are, or will be."""
    return fetch.CACHE / "hadoop" / name


def digests(directory):
    """SHA-256 of each file, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def expected(name):
    """As [`digests`], from the list."""
    pairs = (line.split() for line in LIST.read_text(encoding="utf-8").splitlines())
    return {path.removeprefix(f"{name}/"): digest for digest, path in pairs if path.startswith(f"{name}/")}


def download(name, into):
    """Has Maven bring a set into an empty folder."""
    if not shutil.which("mvn"):
        raise fetch.FetchError("Maven is missing; this line installs it: apt-get install maven")
    group, version, artifacts, left_out = SETS[name]
    pom = into.parent / "pom.xml"
    wanted = "".join(DEPENDENCY.format(group, artifact, version) for artifact in artifacts)
    pom.write_text(POM.format(name, wanted), encoding="utf-8")
    command = ["mvn", "-q", "-B", "-f", pom, PLUGIN, f"-DoutputDirectory={into}", "-DincludeScope=runtime"]
    if left_out:
        command.append(f"-DexcludeArtifactIds={','.join(left_out)}")
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise fetch.FetchError(f"Maven did not end within {FETCH_SECONDS} s") from None
    if done.returncode:
        raise fetch.FetchError("Maven failed (its message is above); is Maven Central reachable from here?")


def install(name):
    """Fetches a set if it is not there; its folder."""
    final = place(name)
    if final.exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {name} from Maven Central", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".part-") as part:
        jars = pathlib.Path(part) / "jars"
        download(name, jars)
        found, wanted = digests(jars), expected(name)
        wrong = sorted(one for one in found.keys() | wanted.keys() if found.get(one) != wanted.get(one))
        if wrong:
            raise fetch.FetchError(f"{name}: not what {LIST.name} says: {', '.join(wrong)}")
        jars.rename(final)
    return final


def write_list():
    """Writes down what Maven brings now."""
    lines = []
    for name in SETS:
        with tempfile.TemporaryDirectory() as part:
            jars = pathlib.Path(part) / "jars"
            download(name, jars)
            lines += [f"{digest}  {name}/{file}\n" for file, digest in digests(jars).items()]
    LIST.write_text("".join(lines), encoding="utf-8")


def main():
    try:
        if sys.argv[1:] == ["--write-list"]:
            write_list()
        for name in SETS:
            print(install(name))
    except fetch.FetchError as error:
        print(f"jars.py: {error}", file=sys.stderr)
        return 6
    return 0


if __name__ == "__main__":
    sys.exit(main())
