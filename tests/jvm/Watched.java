/** {@link Churn} again and again until something comes on standard input: a JVM for others to look at meanwhile. */
public class Watched {
    public static void main(String[] arguments) throws Exception {
        int rounds = Integer.parseInt(arguments[0]);
        long first = Churn.everything(rounds);
        while (System.in.available() == 0) {
            long again = Churn.everything(rounds);
            if (again != first) throw new AssertionError(again + " after " + first);
        }
        System.out.println(first);
    }
}
