import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.LongUnaryOperator;

/**
 * Four threads that keep HotSpot busy in every way that matters to a translator: garbage, implicit null checks,
 * divisions by zero, deep recursion, exceptions, lambdas, virtual calls that stop being monomorphic (compiled code
 * is thrown away), strings. Prints one number, which does not depend on timing.
 */
public class Churn {
    interface Shape {
        long area(long side);
    }

    static final class Square implements Shape {
        public long area(long side) {
            return side * side;
        }
    }

    static final class Strip implements Shape {
        public long area(long side) {
            return side * 3;
        }
    }

    static final class Hole implements Shape {
        public long area(long side) {
            return -side;
        }
    }

    static int depth(int n) {
        return n == 0 ? 0 : 1 + depth(n - 1);
    }

    static int endless(int n) {
        return endless(n + 1) + 1;
    }

    static long faults(int rounds) {
        long caught = 0;
        for (int i = 0; i < rounds; i++) {
            try {
                Object nothing = i % 3 == 0 ? null : "something";
                caught += nothing.hashCode() & 1;
                caught += 100 / (i % 5);
            } catch (NullPointerException e) {
                caught += 2;
            } catch (ArithmeticException e) {
                caught += 3;
            }
        }
        try {
            endless(0);
        } catch (StackOverflowError e) {
            caught += 7;
        }
        return caught;
    }

    static long work(int seed, int rounds) {
        long sum = faults(20_000) + depth(2_000);
        Shape[] shapes = {new Square(), new Square(), new Square()};
        Map<String, Integer> words = new HashMap<>();
        List<byte[]> garbage = new ArrayList<>();
        for (int i = 0; i < rounds; i++) {
            // First one class, then two, then three: the compiler's guess fails twice.
            if (i == rounds / 3) shapes[1] = new Strip();
            if (i == rounds / 2) shapes[2] = new Hole();
            sum += shapes[i % 3].area(i);
            words.merge("w" + (i * 31L + seed) % 997, 1, Integer::sum);
            if (i % 16 == 0) garbage.add(new byte[1024]);
            if (garbage.size() > 2_000) garbage.clear();
            long step = i;
            LongUnaryOperator twist = value -> value * 31 + step;
            sum = twist.applyAsLong(sum);
        }
        for (int count : words.values()) sum = sum * 7 + count % 5 * 0 + count;
        return sum;
    }

    /** All of it, on four threads. */
    static long everything(int rounds) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<Long>> results = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            int seed = i;
            Callable<Long> task = () -> work(seed, rounds);
            results.add(threads.submit(task));
        }
        long sum = 0;
        for (Future<Long> result : results) sum = sum * 1_000_003 + result.get();
        threads.shutdown();
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println(everything(arguments.length > 0 ? Integer.parseInt(arguments[0]) : 200_000));
    }
}
