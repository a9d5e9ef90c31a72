"""Reads a store's table of tasks as any user of Spark would, and writes a few sums: read_store.py STORE OUT."""

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

store, out = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()
tasks = spark.read.parquet(f"{store}/tasks")
row = tasks.agg(
    f.count("*").alias("tasks"),
    f.sum("instructions").alias("instructions"),
    f.sum("file_read_bytes").alias("file_read_bytes"),
).first()
with open(out, "w", encoding="utf-8") as file:
    json.dump({name: int(row[name] or 0) for name in ("tasks", "instructions", "file_read_bytes")}, file)
spark.stop()
