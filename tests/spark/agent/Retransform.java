import java.lang.instrument.Instrumentation;
import java.util.ArrayList;
import java.util.List;

/**
 * A Java agent that does what other agents do to classes: retransforms those that the bridge has
 * breakpoints in, once they are loaded and some tasks have run. HotSpot clears a class's breakpoints then.
 */
public final class Retransform {
    private static final List<String> WANTED = List.of(
            "org.apache.spark.executor.Executor$TaskRunner",
            "org.apache.spark.memory.TaskMemoryManager",
            "org.apache.spark.scheduler.Task");

    public static void premain(String milliseconds, Instrumentation instrumentation) {
        Thread thread = new Thread(() -> run(Long.parseLong(milliseconds), instrumentation), "retransform");
        thread.setDaemon(true);
        thread.start();
    }

    private static void run(long milliseconds, Instrumentation instrumentation) {
        try {
            List<Class<?>> found = new ArrayList<>();
            while (found.size() < WANTED.size()) {
                Thread.sleep(20);
                found.clear();
                for (Class<?> loaded : instrumentation.getAllLoadedClasses()) {
                    if (WANTED.contains(loaded.getName())) {
                        found.add(loaded);
                    }
                }
            }
            Thread.sleep(milliseconds);
            instrumentation.retransformClasses(found.toArray(new Class<?>[0]));
            System.err.println("retransformed " + found.size() + " classes");
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }
}
