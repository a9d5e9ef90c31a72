package org.apache.spark.executor;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** Thousands of short tasks on a few threads, beside one that makes garbage and asks for collections. */
public class CoarseGrainedExecutorBackend {
    public static void main(String[] arguments) throws Exception {
        int tasks = Integer.parseInt(arguments[0]);
        ExecutorService pool = Executors.newFixedThreadPool(4, task -> new Thread(task, "Executor task launch worker-0"));
        Thread beside = new Thread(() -> {
            byte[][] kept = new byte[64][];
            for (int i = 0; !Thread.interrupted(); i++) {
                kept[i % kept.length] = new byte[64 << 10];
                if (i % 5000 == 0) System.gc();
                Thread.onSpinWait();
            }
        });
        beside.setDaemon(true);
        beside.start();
        for (int task = 0; task < tasks; task++) pool.execute(new Executor.TaskRunner(task));
        pool.shutdown();
        pool.awaitTermination(10, TimeUnit.MINUTES);
        beside.interrupt();
        beside.join();
        System.out.println(Executor.SUM.get() + " " + Executor.FAILED.get());
    }
}
