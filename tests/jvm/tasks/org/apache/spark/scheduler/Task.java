package org.apache.spark.scheduler;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.LongUnaryOperator;

/** Some work whose result depends on its number alone: maps, garbage, exceptions, null checks, native code. */
public class Task {
    /** What tasks do instead, if anything. */
    public static LongUnaryOperator work;

    final long number;

    public Task(long number) {
        this.number = number;
    }

    public long run() {
        if (work != null) return work.applyAsLong(number);
        Map<String, Long> sums = new HashMap<>();
        List<byte[]> garbage = new ArrayList<>();
        long caught = 0;
        for (int i = 0; i < 300; i++) {
            sums.merge("key " + (i * 31 + number) % 37, i * number, Long::sum);
            garbage.add(new byte[256]);
            try {
                Object nothing = i % 50 == 0 ? null : sums;
                caught += nothing.hashCode() == 0 ? 1 : 0;
                if (i % 75 == 0) caught += 100 / (i % 3 - i % 3);
            } catch (NullPointerException | ArithmeticException e) {
                caught += 2;
            }
        }
        long total = caught + garbage.size();
        for (long sum : sums.values()) total += sum ^ number;
        if (number % 17 == 3) throw new IllegalStateException("task " + number + " fails on purpose: " + total);
        return total;
    }
}
