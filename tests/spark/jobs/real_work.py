"""What Spark is used for, small: each job writes one folder below OUTPUT_DIR, with the same bytes on every run.

    real_work.py generate INPUT_DIR            the input, made up, the same on every machine
    spark-submit real_work.py INPUT_DIR OUTPUT_DIR [JOB...]
"""

import pathlib
import random
import sys

WORDS = 400_000
NODES = 300


def generate(directory):
    """Text, ratings, movies, and files for the stream, in `directory`."""
    root = pathlib.Path(__file__).resolve().parents[3]
    sys.path.insert(0, str(root / "demo"))
    import ratings

    directory = pathlib.Path(directory)
    ratings.write(directory, 100_000)
    dice = random.Random(2)
    words = [f"{dice.choice('bcdfgklmnprst')}{dice.choice('aeiou')}{number % 997}" for number in range(5_000)]
    lines = (" ".join(dice.choices(words, k=20)) for _ in range(WORDS // 20))
    (directory / "text").write_text("\n".join(lines), encoding="utf-8")
    (directory / "stream").mkdir()
    for number in range(4):
        numbers = "".join(f"{dice.randrange(100)}\n" for _ in range(5_000))
        (directory / "stream" / f"{number}.csv").write_text(numbers, encoding="utf-8")


def word_count(spark, data, out):
    """Two stages, as RDDs of Python functions would be too slow: DataFrames."""
    spark.read.text(f"{data}/text", wholetext=False).selectExpr("explode(split(value, ' ')) as word").groupBy("word").count().orderBy(
        "word"
    ).write.csv(out)


def join(spark, data, out):
    """Ratings by genre: a shuffle join, then an aggregation."""
    ratings = spark.read.csv(f"{data}/ratings.csv", header=True, schema="user int, movie int, rating double")
    movies = spark.read.csv(f"{data}/movies.csv", header=True, schema="movie int, title string, genres string")
    joined = ratings.join(movies.hint("shuffle_merge"), "movie").selectExpr("rating", "explode(split(genres, '[|]')) as genre")
    joined.groupBy("genre").agg({"rating": "avg", "*": "count"}).orderBy("genre").write.csv(out)


def sort(spark, _data, out):
    """A total order over all partitions."""
    spark.range(0, 200_000, 1, 6).selectExpr("hash(id) as number").orderBy("number").write.csv(out)


def adaptive(spark, _data, out):
    """An aggregation whose plan changes while it runs: skewed keys, partitions that are merged."""
    spark.conf.set("spark.sql.adaptive.enabled", "true")
    spark.range(0, 300_000, 1, 6).createOrReplaceTempView("numbers")
    query = """select key, count(*) as n, sum(value) as total, max(value) as most
        from (select if(id % 4 = 0, 7, id % 1009) as key, hash(id) % 1000 as value from numbers)
        group by key having n > 10 order by key"""
    spark.sql(query).write.csv(out)


def python_function(spark, _data, out):
    """A function in Python, in workers of its own."""
    from pyspark.sql.functions import udf

    digits = udf(lambda number: sum(map(int, str(number))), "int")
    numbers = spark.range(0, 20_000, 1, 4)
    numbers.select("id", digits("id").alias("digits")).groupBy("digits").count().orderBy("digits").write.csv(out)


def page_rank(spark, _data, out):
    """Ranks in whole numbers, six iterations over RDDs in Python."""
    edges = [(node, (node * 7 + step * step) % NODES) for node in range(NODES) for step in range(1, 4)]
    links = spark.sparkContext.parallelize(edges, 4).distinct(4).groupByKey(4).mapValues(sorted).cache()
    ranks = links.mapValues(lambda _: 1_000_000)
    for _ in range(3):
        given = links.join(ranks, 4).flatMap(lambda pair: [(to, pair[1][1] // len(pair[1][0])) for to in pair[1][0]])
        ranks = given.reduceByKey(lambda a, b: a + b, 4).mapValues(lambda sum_: 150_000 + sum_ * 85 // 100)
    ranks.sortByKey(numPartitions=2).map(lambda pair: f"{pair[0]},{pair[1]}").saveAsTextFile(out)


def barrier(spark, _data, out):
    """Two tasks that wait for each other."""
    from pyspark import BarrierTaskContext

    def meet(rows):
        context = BarrierTaskContext.get()
        context.barrier()
        yield f"{context.partitionId()},{sum(rows)}"

    spark.sparkContext.parallelize(range(1000), 2).barrier().mapPartitions(meet).saveAsTextFile(out)


def stream(spark, data, out):
    """Micro-batches over files, one file each."""
    numbers = spark.readStream.schema("number int").option("maxFilesPerTrigger", 1).csv(f"{data}/stream")
    counts = numbers.groupBy("number").count()
    query = counts.writeStream.outputMode("complete").format("memory").queryName("counted").trigger(availableNow=True).start()
    query.awaitTermination()
    spark.table("counted").orderBy("number").coalesce(1).write.csv(out)


JOBS = (word_count, join, sort, adaptive, python_function, page_rank, barrier, stream)


def main(data, output, *wanted):
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("real work").getOrCreate()
    for job in JOBS:
        if not wanted or job.__name__ in wanted:
            spark.sparkContext.setJobDescription(job.__name__)
            job(spark, data, f"{output}/{job.__name__}")
    spark.stop()


if __name__ == "__main__":
    if sys.argv[1] == "generate":
        generate(sys.argv[2])
    else:
        main(*sys.argv[1:])
