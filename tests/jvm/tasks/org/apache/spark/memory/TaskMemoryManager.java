package org.apache.spark.memory;

/** Where a task starts for the library: each of Spark's tasks makes one. */
public class TaskMemoryManager {
    public final long task;

    public TaskMemoryManager(long task) {
        this.task = task;
    }
}
