# Standalone: into conf/spark-env.sh of every worker, then restart the workers.
# Executors inherit it; the worker's own JVM and the shells in between stay passive.
export LD_PRELOAD=/opt/sparkanalyzer/lib/libshim.so${LD_PRELOAD:+:$LD_PRELOAD}
export SPARKANALYZER_OUTPUT_DIR=/var/tmp/sparkanalyzer
