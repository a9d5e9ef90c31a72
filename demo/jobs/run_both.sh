#!/usr/bin/env bash
# Submits the demo's two jobs to the running cluster (demo/cluster.py gives SPARK_*).
#   run_both.sh TEXT RATINGS_DIR OUT_DIR
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
text="$1" ratings="$2" out="$3"

# submit NAME PROGRAM ARGS... : the driver's log goes to OUT/NAME.log, shown if the job fails.
submit() {
    local name="$1" begin=$SECONDS
    shift
    if ! "$SPARK_HOME/bin/spark-submit" \
        --master "$SPARK_MASTER_URL" \
        --conf spark.executor.memory=512m \
        --conf spark.eventLog.enabled=true \
        --conf "spark.eventLog.dir=file://$out/event-logs" \
        --conf spark.sql.files.maxPartitionBytes=4m \
        --conf spark.sql.shuffle.partitions=8 \
        "$@" >"$out/$name.log" 2>&1; then
        tail -n 40 "$out/$name.log" >&2
        echo "demo: the job $name failed; its whole log: $out/$name.log" >&2
        return 1
    fi
    printf '  %s: %s s, log in %s\n' "$name" "$((SECONDS - begin))" "$out/$name.log"
}

mkdir -p "$out/event-logs"
submit word-count "$here/word_count.py" "file://$text" "file://$out/words"
submit genre-ratings "$here/genre_ratings.py" \
    "file://$ratings/ratings.csv" "file://$ratings/movies.csv" "file://$out/genres"
