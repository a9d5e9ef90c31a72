import java.lang.management.ManagementFactory;

/** Whether the compiler takes objects apart that do not leave a loop: says so, or that they are still allocated at the end. */
public class Escape {
    static final class Pair {
        final long left;
        final long right;

        Pair(long left, long right) {
            this.left = left;
            this.right = right;
        }
    }

    static final int PAIRS = 200_000;

    static long sum(long seed) {
        long sum = seed;
        for (int i = 0; i < PAIRS; i++) {
            Pair pair = new Pair(i, sum);
            sum += pair.left ^ pair.right;
        }
        return sum;
    }

    public static void main(String[] arguments) {
        com.sun.management.ThreadMXBean threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
        long thread = Thread.currentThread().getId();
        long sum = 0;
        boolean allocates = true;
        // Compiled code comes when the compiler has had a processor.
        for (int round = 0; round < 500 && allocates; round++) {
            long before = threads.getThreadAllocatedBytes(thread);
            sum = sum(sum);
            allocates = threads.getThreadAllocatedBytes(thread) - before > PAIRS;
        }
        System.out.println(allocates ? "allocated" : "taken apart");
    }
}
