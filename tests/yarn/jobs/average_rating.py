"""Average rating per genre with RDDs: ratings joined with movies, then added up into one partition.

    spark-submit --py-files genres.py average_rating.py RATINGS MOVIES OUTPUT [PASSES]

Each partition of the ratings is a block of HDFS, the movies are one block that is read as two splits. In PySpark a join is
a union of both and a shuffle: a stage of seven tasks, one of five that joins, and one of one. With PASSES the ratings are
kept in memory and counted so often first, with pauses in which executors are idle.
"""

import sys
import time

import genres
from pyspark import SparkContext

PAUSE_SECONDS = 8


def main(ratings_path, movies_path, output, passes=0):
    context = SparkContext(appName="average rating per genre")
    ratings = context.textFile(ratings_path).flatMap(genres.rating)
    movies = context.textFile(movies_path, 2).flatMap(genres.movie)
    for count in range(passes):
        if count == 0:
            ratings.cache()
        ratings.count()
        time.sleep(PAUSE_SECONDS)
    averages = (
        ratings.join(movies, 5)
        .flatMap(genres.by_genre)
        .aggregateByKey((0.0, 0), genres.add, genres.merge, 1)
        .map(genres.line)
    )
    averages.saveAsTextFile(output)
    context.stop()


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
