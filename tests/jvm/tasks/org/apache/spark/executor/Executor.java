package org.apache.spark.executor;

import java.util.concurrent.atomic.AtomicLong;
import org.apache.spark.memory.TaskMemoryManager;
import org.apache.spark.scheduler.Task;

/** Runs tasks as Spark's executor does, as far as the library sees it: the thread's name, the classes, the methods. */
public class Executor {
    static final AtomicLong SUM = new AtomicLong();
    static final AtomicLong FAILED = new AtomicLong();

    /** One task on its pool thread. */
    public static class TaskRunner implements Runnable {
        final long number;

        public TaskRunner(long number) {
            this.number = number;
        }

        @Override
        public void run() {
            Thread thread = Thread.currentThread();
            thread.setName("Executor task launch worker for task " + number % 8 + ".0 in stage " + number / 8 + ".0 (TID " + number + ")");
            TaskMemoryManager memory = new TaskMemoryManager(number);
            try {
                SUM.addAndGet(new Task(memory.task).run());
            } catch (IllegalStateException e) {
                FAILED.incrementAndGet();
            } finally {
                thread.setName("Executor task idle worker");
            }
        }
    }
}
