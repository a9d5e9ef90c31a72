import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.function.LongUnaryOperator;
import org.apache.spark.executor.Executor;
import org.apache.spark.scheduler.Task;

/**
 * Tasks that are loops of known lengths, one after the other on a thread of their own: LENGTH, twice and three times that,
 * by the task's number. What the loop is made of: bytecodes, native code, or native code on threads that the
 * task starts, one of which goes on when the task has ended.
 *
 * <p>Known bytecodes|native|threads TASKS LENGTH
 */
public class Known {
    static volatile long sum;

    static long bytecodes(long length) {
        long value = 1;
        for (long i = 0; i < length; i++) value = value * 31 + i;
        return value;
    }

    static final List<Thread> LASTING = new ArrayList<>();
    static volatile CountDownLatch ended;

    /** A thread that ends before the task, and one that does as much again after it. */
    static long threads(long length) {
        try {
            Thread joined = new Thread(() -> Native.loop(length), "joined");
            joined.start();
            joined.join();
            CountDownLatch done = new CountDownLatch(1);
            CountDownLatch until = ended;
            Thread lasting = new Thread(() -> {
                Native.loop(length);
                done.countDown();
                try {
                    until.await();
                } catch (InterruptedException e) {
                    throw new AssertionError(e);
                }
                Native.loop(length);
            }, "lasting");
            lasting.start();
            done.await();
            LASTING.add(lasting);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
        return length;
    }

    public static void main(String[] arguments) throws Exception {
        int tasks = Integer.parseInt(arguments[1]);
        long length = Long.parseLong(arguments[2]);
        LongUnaryOperator loop = arguments[0].equals("bytecodes") ? Known::bytecodes : arguments[0].equals("native") ? Native::loop : Known::threads;
        Task.work = number -> loop.applyAsLong(length * (1 + number % 3));
        Thread worker = new Thread(() -> {
            for (int task = 0; task < tasks; task++) {
                ended = new CountDownLatch(1);
                new Executor.TaskRunner(task).run();
                ended.countDown();
            }
        }, "Executor task launch worker-0");
        worker.start();
        worker.join();
        for (Thread lasting : LASTING) lasting.join();
        System.out.println("done");
    }
}
