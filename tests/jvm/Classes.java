import java.io.InputStream;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Method;
import java.util.concurrent.Callable;
import java.util.function.IntBinaryOperator;

/**
 * Classes that come and go: each round loads this file's nested class by a loader of its own, compiles and forgets it;
 * method handles, reflection, lambdas and strings made by invokedynamic in between.
 */
public class Classes {
    /** Loaded again and again. */
    public static final class Guest implements Callable<Integer> {
        private static int rounds;

        static int twist(int value) {
            IntBinaryOperator mix = (a, b) -> a * 31 + b + rounds;
            int sum = 0;
            for (int i = 0; i < 500; i++) sum = mix.applyAsInt(sum, value + i);
            return sum;
        }

        @Override
        public Integer call() {
            int sum = 0;
            for (int i = 0; i < 40; i++) sum += twist(i);
            rounds++;
            return sum;
        }
    }

    static final class Loader extends ClassLoader {
        final byte[] bytes;

        Loader(byte[] bytes) {
            super(Classes.class.getClassLoader());
            this.bytes = bytes;
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            if (!name.equals("Classes$Guest")) return super.loadClass(name, resolve);
            Class<?> known = findLoadedClass(name);
            return known != null ? known : defineClass(name, bytes, 0, bytes.length);
        }
    }

    static int add(int a, int b) {
        return a + b;
    }

    public static void main(String[] arguments) throws Throwable {
        int rounds = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 300;
        byte[] bytes;
        try (InputStream in = Classes.class.getResourceAsStream("Classes$Guest.class")) {
            bytes = in.readAllBytes();
        }
        MethodHandle adding = MethodHandles.lookup()
            .findStatic(Classes.class, "add", MethodType.methodType(int.class, int.class, int.class));
        Method reflected = Classes.class.getDeclaredMethod("add", int.class, int.class);
        int sum = 0;
        for (int round = 0; round < rounds; round++) {
            Object guest = new Loader(bytes).loadClass("Classes$Guest").getDeclaredConstructor().newInstance();
            for (int i = 0; i < 4; i++) sum += ((Callable<Integer>) guest).call();
            MethodHandle bound = MethodHandles.insertArguments(adding, 1, round);
            sum = (int) bound.invokeExact(sum);
            sum = (int) reflected.invoke(null, sum, 1);
            sum += ("round " + round + " of " + rounds + ": " + sum).length();
            if (round % 50 == 0) System.gc();
        }
        System.out.println(sum);
    }
}
