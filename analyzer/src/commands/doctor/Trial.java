/**
 * What the doctor runs followed in a JVM: threads, compiled code, garbage, and exceptions that HotSpot takes from
 * signals. Trial.class is what javac makes of it: javac --release 8 -g:none Trial.java
 */
final class Trial implements Runnable {
    private static final int ROUNDS = 20_000;
    private static volatile Object nothing;

    private long sum;

    private Trial(long seed) {
        sum = seed;
    }

    @Override
    public void run() {
        for (int i = 0; i < ROUNDS; i++) {
            sum = sum * 31 + new int[16 + i % 16].length;
            if (i % 2_000 == 0) {
                try {
                    nothing.hashCode();
                } catch (NullPointerException expected) {
                    sum++;
                }
            }
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        Trial[] trials = new Trial[4];
        Thread[] threads = new Thread[trials.length];
        for (int i = 0; i < threads.length; i++) {
            trials[i] = new Trial(i);
            threads[i] = new Thread(trials[i]);
            threads[i].start();
        }
        System.gc();
        long all = 0;
        for (int i = 0; i < threads.length; i++) {
            threads[i].join();
            all = all * 17 + trials[i].sum;
        }
        System.out.println("trial " + Long.toHexString(all));
    }
}
