import java.nio.ByteBuffer;

/** Native code that calls Java, is called by it, throws, catches, brings threads of its own; see native.c. */
public class Native {
    static {
        System.load(System.getProperty("native.library"));
    }

    static native long sum(long[] values);

    static native long down(int depth);

    static native void fail(String message);

    static native long caught(int number);

    static native long elsewhere(int threads, long seed);

    static native void fill(ByteBuffer buffer, int seed);

    /** Two instructions a round, and some more around them that do not depend on the number. */
    public static native long loop(long rounds);

    static long up(int depth) {
        return depth == 0 ? 1 : down(depth - 1) + depth;
    }

    static void throwing(int number) {
        if (number % 3 != 0) throw new IllegalStateException("number " + number);
    }

    static long work(long seed) {
        long sum = seed;
        for (int i = 0; i < 1_000; i++) sum = sum * 31 + Long.toString(sum).length();
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        int rounds = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 300;
        long[] values = new long[5_000];
        ByteBuffer direct = ByteBuffer.allocateDirect(4_096);
        long total = 0;
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < values.length; i++) values[i] = i * (long) round;
            total += sum(values) + down(40 + round % 50) + loop(100_000);
            for (int i = 0; i < 50; i++) total = total * 7 + caught(i);
            try {
                fail("round " + round);
            } catch (IllegalArgumentException e) {
                total += e.getMessage().length();
            }
            total += elsewhere(3, round);
            fill(direct, round);
            for (int i = 0; i < direct.capacity(); i++) total = total * 31 + direct.get(i);
            if (round % 64 == 0) System.gc();
        }
        System.out.println(total);
    }
}
