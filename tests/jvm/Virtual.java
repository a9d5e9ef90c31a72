import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.atomic.AtomicLong;

/** Thousands of threads that wait for each other: virtual ones where Java has them (21 and later), else platform threads. */
public class Virtual {
    static Thread start(Runnable task) throws Exception {
        try {
            Method method = Thread.class.getMethod("startVirtualThread", Runnable.class);
            return (Thread) method.invoke(null, task);
        } catch (NoSuchMethodException | java.lang.reflect.InvocationTargetException e) {
            Thread thread = new Thread(task);
            thread.start();
            return thread;
        }
    }

    public static void main(String[] arguments) throws Exception {
        int pairs = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 150;
        AtomicLong sum = new AtomicLong();
        List<Thread> threads = new ArrayList<>();
        for (int pair = 0; pair < pairs; pair++) {
            int number = pair;
            BlockingQueue<Integer> queue = new ArrayBlockingQueue<>(2);
            threads.add(start(() -> {
                try {
                    for (int i = 0; i < 60; i++) queue.put(number * i);
                    queue.put(-1);
                } catch (InterruptedException e) {
                    throw new AssertionError(e);
                }
            }));
            threads.add(start(() -> {
                try {
                    for (int got = queue.take(); got >= 0; got = queue.take()) sum.addAndGet(got ^ number);
                } catch (InterruptedException e) {
                    throw new AssertionError(e);
                }
            }));
        }
        for (Thread thread : threads) thread.join();
        System.out.println(sum.get());
    }
}
