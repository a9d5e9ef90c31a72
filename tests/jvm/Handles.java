import java.lang.invoke.CallSite;
import java.lang.invoke.LambdaMetafactory;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.invoke.MutableCallSite;
import java.lang.invoke.SwitchPoint;
import java.lang.invoke.VarHandle;
import java.util.List;
import java.util.function.LongUnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.LongStream;

/**
 * Call sites that compiled code has taken for constant and that change again and again, so that it is thrown away as
 * often; lambda classes made at run time, variable handles, streams.
 */
public class Handles {
    static final MethodType LONG_TO_LONG = MethodType.methodType(long.class, long.class);
    static final MutableCallSite SITE = new MutableCallSite(LONG_TO_LONG);
    static final MethodHandle THROUGH_SITE = SITE.dynamicInvoker();
    static final VarHandle FIELD;
    static SwitchPoint guard = new SwitchPoint();

    static {
        try {
            FIELD = MethodHandles.lookup().findVarHandle(Handles.class, "field", long.class);
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(e);
        }
    }

    volatile long field;

    static long twice(long value) {
        return value * 2 + 1;
    }

    static long mixed(long value) {
        return value * 31 ^ value >>> 7;
    }

    static long failing(long value) {
        if ((value & 1023) == 5) throw new IllegalArgumentException();
        return value - 3;
    }

    static long recovered(IllegalArgumentException thrown, long value) {
        return value + 9;
    }

    static long run(int steps, long sum) throws Throwable {
        for (int i = 0; i < steps; i++) sum = (long) THROUGH_SITE.invokeExact(sum + i);
        return sum;
    }

    public static void main(String[] arguments) throws Throwable {
        int rounds = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 400;
        MethodHandles.Lookup lookup = MethodHandles.lookup();
        MethodHandle twice = lookup.findStatic(Handles.class, "twice", LONG_TO_LONG);
        MethodHandle mixed = lookup.findStatic(Handles.class, "mixed", LONG_TO_LONG);
        MethodHandle failing = lookup.findStatic(Handles.class, "failing", LONG_TO_LONG);
        MethodType recovering = MethodType.methodType(long.class, IllegalArgumentException.class, long.class);
        MethodHandle recovered = lookup.findStatic(Handles.class, "recovered", recovering);
        MethodHandle safe = MethodHandles.catchException(failing, IllegalArgumentException.class, recovered);
        Handles object = new Handles();
        long sum = 0;
        for (int round = 0; round < rounds; round++) {
            MethodHandle target = round % 3 == 0 ? twice : round % 3 == 1 ? mixed : safe;
            SITE.setTarget(guard.guardWithTest(target, MethodHandles.filterReturnValue(target, mixed)));
            sum = run(4_000, sum);
            if (round % 5 == 0) {
                SwitchPoint.invalidateAll(new SwitchPoint[] {guard});
                sum = run(4_000, sum);
                guard = new SwitchPoint();
            }
            MethodType makes = MethodType.methodType(LongUnaryOperator.class);
            CallSite made = LambdaMetafactory.metafactory(lookup, "applyAsLong", makes, LONG_TO_LONG, mixed, LONG_TO_LONG);
            LongUnaryOperator lambda = (LongUnaryOperator) made.getTarget().invokeExact();
            for (int i = 0; i < 500; i++) sum += (long) FIELD.getAndAdd(object, lambda.applyAsLong(i + round));
            long step = round;
            List<String> texts = LongStream.range(0, 60).map(value -> value * step).mapToObj(value -> "<" + value + "," + step + ">").collect(Collectors.toList());
            sum += String.join("", texts).hashCode();
        }
        System.out.println(sum + " " + object.field);
    }
}
