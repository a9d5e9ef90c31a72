"""Tasks that fail at their first attempt, before and after a shuffle; the job succeeds.

A task before the shuffle ends only when both executors run one that will succeed, so that each holds a share
of the shuffle. The first task after it writes its executor's id to the file READY, waits for the file GO, and
fails: the test kills the other executor in between, so that the second attempt cannot fetch that one's share,
and both stages get a second attempt.

spark-submit retries.py READY GO OUTPUT_DIR
"""

import os
import pathlib
import sys
import time

from pyspark import TaskContext
from pyspark.sql import SparkSession


def own_executor():
    """The id of the executor that this Python worker serves: a standalone executor's directory is named by it."""
    return os.path.basename(os.getcwd())


def wait_for_both(present):
    """A partition function: says in the directory `present` that this executor is here, waits for a second one."""

    def run(_, rows):
        pathlib.Path(present, own_executor()).touch()
        while len(os.listdir(present)) < 2:
            time.sleep(0.1)
        return rows

    return run


def fail_at_first(every):
    """A partition function: partitions 0, `every`, 2 * `every`... fail unless tried again."""

    def run(partition, rows):
        if partition % every == 0 and TaskContext.get().attemptNumber() == 0:
            raise RuntimeError("first attempt fails on purpose")
        return rows

    return run


def wait_in_first(ready, go):
    """A partition function: partition 0 says that it runs, and where, then waits."""

    def run(partition, rows):
        if partition == 0 and not pathlib.Path(go).exists():
            pathlib.Path(f"{ready}.part").write_text(own_executor(), encoding="utf-8")
            os.rename(f"{ready}.part", ready)
            while not pathlib.Path(go).exists():
                time.sleep(0.1)
        return rows

    return run


def main(ready, go, output):
    spark = SparkSession.builder.appName("retries").getOrCreate()
    words = spark.sparkContext.parallelize(range(60_000), 6).mapPartitionsWithIndex(fail_at_first(2))
    present = f"{ready}.present"
    os.makedirs(present, exist_ok=True)
    words = words.mapPartitionsWithIndex(wait_for_both(present))
    sums = words.map(lambda number: (number % 101, number)).reduceByKey(lambda a, b: a + b, 6)
    waited = sums.mapPartitionsWithIndex(wait_in_first(ready, go)).mapPartitionsWithIndex(fail_at_first(3))
    waited.map(lambda pair: f"{pair[0]} {pair[1]}").saveAsTextFile(output)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
