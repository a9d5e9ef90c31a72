"""Average rating per genre: ratings joined with movies, then aggregated. JVM only.

spark-submit genre_ratings.py RATINGS_CSV MOVIES_CSV OUTPUT_DIR
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import avg, col, count, explode, round as rounded, split


def main(ratings_csv, movies_csv, output):
    spark = SparkSession.builder.appName("rating per genre").getOrCreate()
    spark.sparkContext.setJobDescription("average rating per genre")
    ratings = spark.read.csv(ratings_csv, header=True, schema="user int, movie int, rating double")
    movies = spark.read.csv(movies_csv, header=True, schema="movie int, title string, genres string")
    by_genre = (
        ratings.join(movies, "movie")
        .select("rating", explode(split("genres", r"\|")).alias("genre"))
        .groupBy("genre")
        .agg(rounded(avg("rating"), 4).alias("average"), count("*").alias("ratings"))
        .orderBy(col("average").desc(), "genre")
    )
    by_genre.write.mode("overwrite").csv(output, header=True)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
