"""Tasks in Python whose work is known: the n-th of PARTITIONS does (1 + n modulo 4) times as many rounds.

    spark-submit python_tasks.py PARTITIONS ROUNDS OUTPUT_DIR
"""

import sys
from itertools import repeat


STEPS = tuple((place * 7 + 3) % 251 for place in range(251))


def loop(steps, index, rounds):
    """Makes no object: what that takes depends on what the worker did before."""
    place = index
    for _ in repeat(None, rounds * (1 + index % 4)):
        place = steps[place]
    return f"{index},{place}"


def expected(partitions, rounds):
    """The lines of the result."""
    return [loop(STEPS, index, rounds) for index in range(partitions)]


def main(partitions, rounds, output):
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("python tasks").getOrCreate()
    # The function travels with the job, as this file is no module there.
    work, steps = loop, STEPS
    tasks = spark.sparkContext.parallelize(range(partitions), partitions)
    tasks.mapPartitionsWithIndex(lambda index, _rows: [work(steps, index, rounds)]).saveAsTextFile(output)
    spark.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
