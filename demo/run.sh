#!/usr/bin/env bash
# What `./run demo` runs: a real Spark cluster with two jobs, then a native program, both counted.
# demo/run.sh clean removes what it left (the cache of downloads included).
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"
cache="${SPARKANALYZER_DEMO_CACHE:-$root/.cache}"
out="$root/.cache/demo"
bin="${CARGO_TARGET_DIR:-$root/target}/release"
steps=8

# Bold on a terminal alone.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; else bold='' plain=''; fi
# A step that takes long says every 20 s that it goes on.
ticker=''
quiet() { if [ -n "$ticker" ]; then kill "$ticker" 2>/dev/null || true; ticker=''; fi; }
trap quiet EXIT
step() {
    quiet
    printf '\n%sstep %s of %s: %s%s  [%s min %02d s so far]\n' "$bold" "$1" "$steps" "$2" "$plain" "$((SECONDS / 60))" "$((SECONDS % 60))"
    (
        trap 'kill "$nap"; exit' TERM
        while sleep 20 & nap=$!; wait "$nap"; do
            printf '  ... step %s goes on  [%s min %02d s so far]\n' "$1" "$((SECONDS / 60))" "$((SECONDS % 60))"
        done
    ) &
    ticker=$!
}
fail() { code=$1; shift; printf 'demo: %s\n' "$*" >&2; exit "$code"; }

case "${1:-}" in
    "") ;;
    clean) rm -rf "$cache" "$root/.cache"; exit 0 ;;
    *) echo "usage: $0 [clean]" >&2; exit 2 ;;
esac

# --- what will be done ------------------------------------------------------------------------------

packages=()
command -v python3 >/dev/null || packages+=(python3)
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
command -v gzip >/dev/null || packages+=(gzip)
command -v cc >/dev/null || packages+=(gcc libc6-dev)

cat <<TEXT
Sparkanalyzer's demo: a Spark cluster of one master and two workers on this machine's loopback addresses,
counted only because the workers' environment says so; two jobs; then gzip, counted the same way.

What it will fetch (nothing else leaves or enters this machine, no question will be asked):
TEXT
if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ]; then
        echo "  Debian packages, installed in the system because this is root: ${packages[*]}"
    else
        fail 6 "these programs are missing and this is not root; this line installs them: sudo apt-get install ${packages[*]}"
    fi
fi
if command -v python3 >/dev/null; then
    python3 "$here/fetch.py" plan spark-4.3.0 java text
else
    echo "  from PyPI into $cache: Spark 4.3.0 (457 MB), Java 17 if none fits (38 MB), English prose (17 MB)"
fi
[ -x "$bin/analyzer" ] || echo "  Rust crates as in Cargo.lock (about 60 MB from crates.io), built into $bin"
cat <<TEXT
Everything stays in $cache and ${bin%/release}; ./run clean removes it.
The first run takes about 10 minutes on two idle cores (most of it compiling), later ones under 3.
TEXT

# --- set-up -----------------------------------------------------------------------------------------

step 1 "fetch what is missing"
if [ "${#packages[@]}" -gt 0 ]; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >&2
fi
fetched="$(python3 "$here/fetch.py" get spark-4.3.0 java text)"
{ read -r spark; read -r java; read -r text; } <<<"$fetched"
printf '  Spark %s\n  Java  %s\n  text  %s (%s MB, %s lines, none twice)\n' \
    "$spark" "$java" "$text" "$(($(stat -c %s "$text") / 1000000))" "$(wc -l <"$text")"

step 2 "build analyzer and libshim.so"
"$root/run" build

step 3 "generate ratings and movies (made up, the same on every machine)"
rm -rf "$out"
mkdir -p "$out"
ratings="$cache/ratings"
[ -s "$ratings/ratings.csv" ] || python3 "$here/ratings.py" "$ratings"
printf '  %s lines in %s\n' "$(wc -l <"$ratings/ratings.csv")" "$ratings/ratings.csv"

# --- the cluster ------------------------------------------------------------------------------------

step 4 "start a master and two workers, run word count and average rating per genre, stop them"
mkdir -p "$out/records/node-1" "$out/records/node-2"
python3 "$here/cluster.py" --spark "$spark" --java "$java" --work "$out/cluster" --preload "$bin/libshim.so" \
    --worker-env "SPARKANALYZER_OUTPUT_DIR=$out/records/node-{node}" \
    --worker-env "SPARKANALYZER_NODE=node-{node}" \
    -- "$here/jobs/run_both.sh" "$text" "$ratings" "$out"
echo "  most frequent words: $(cat "$out"/words/part-* | head -n 5 | tr '\n' ' ')"
echo "  best genres: $(cat "$out"/genres/part-* | grep -v '^genre' | head -n 3 | tr '\n' ' ')"

# --- what was counted -------------------------------------------------------------------------------

analyzer="$bin/analyzer"
step 5 "ingest the records and Spark's event logs"
event_logs=()
for log in "$out"/event-logs/*; do event_logs+=(--event-log "$log"); done
"$analyzer" ingest --store "$out/store" "${event_logs[@]}" "$out/records"

step 6 "what ran, what it cost, what is wrong with it; and a page"
"$analyzer" report --store "$out/store" --app "word count" | tee "$out/report.txt"
"$analyzer" report --store "$out/store" --app "rating per genre" | tee -a "$out/report.txt"
"$analyzer" report --store "$out/store" --format html --output "$out/report.html"

step 7 "count a native program: gzip on the same text"
cp "$text" "$out/text"
"$analyzer" trace --json "$out/gzip.json" --out "$out/trace" -- gzip -k "$out/text"
gzip -t "$out/text.gz"

step 8 "done"
quiet
cat <<TEXT
  records   $out/records
  store     $out/store (Parquet)
  page      $out/report.html (open it in a browser)
  report    $out/report.txt; again, by task: $analyzer report --store $out/store --by task
  gzip      $out/gzip.json

On your own cluster:
  1. on every worker, in conf/spark-env.sh:  export LD_PRELOAD=$bin/libshim.so SPARKANALYZER_OUTPUT_DIR=/var/tmp/sparkanalyzer
     and where jobs are submitted, in conf/spark-defaults.conf:  spark.eventLog.enabled true  and  spark.eventLog.dir  (the directory must exist)
  2. after the job, records and event log together:  $analyzer ingest --store STORE --event-log EVENT_LOG RECORD_DIR...
  3. look:  $analyzer report --store STORE

What the figures of this run say:
TEXT
python3 "$here/conclusions.py" "$analyzer" "$out/store"
