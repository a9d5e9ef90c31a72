"""Tasks that fail at their first attempt, before and after a shuffle; the job succeeds.

The first task after the shuffle writes its executor's id to the file READY and waits for the file GO, so
that the test can kill the other executor then: tasks that still have to read its share of the shuffle
fail to fetch it, and both stages get a second attempt.

spark-submit retries.py READY GO OUTPUT_DIR
"""

import os
import pathlib
import sys
import time

from pyspark import TaskContext
from pyspark.sql import SparkSession


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
            # A standalone executor's Python workers run in its directory, which is named by its id.
            pathlib.Path(f"{ready}.part").write_text(os.path.basename(os.getcwd()), encoding="utf-8")
            os.rename(f"{ready}.part", ready)
            while not pathlib.Path(go).exists():
                time.sleep(0.1)
        return rows

    return run


def main(ready, go, output):
    spark = SparkSession.builder.appName("retries").getOrCreate()
    words = spark.sparkContext.parallelize(range(60_000), 6).mapPartitionsWithIndex(fail_at_first(2))
    sums = words.map(lambda number: (number % 101, number)).reduceByKey(lambda a, b: a + b, 6)
    waited = sums.mapPartitionsWithIndex(wait_in_first(ready, go)).mapPartitionsWithIndex(fail_at_first(3))
    waited.map(lambda pair: f"{pair[0]} {pair[1]}").saveAsTextFile(output)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
