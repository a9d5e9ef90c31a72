import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Counts the words of a text made up in memory, once with a map and once with parallel streams. */
public class Words {
    public static void main(String[] arguments) {
        int lines = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 30_000;
        Random dice = new Random(7);
        String[] text = new String[lines];
        for (int i = 0; i < lines; i++) {
            StringBuilder line = new StringBuilder();
            for (int word = 0; word < 12; word++) line.append("w").append(Math.abs((int) (dice.nextGaussian() * 500))).append(' ');
            text[i] = line.toString();
        }
        Map<String, Integer> counts = new HashMap<>();
        long bytes = 0;
        for (String line : text) {
            bytes += line.getBytes(StandardCharsets.UTF_8).length;
            for (String word : line.trim().split(" +")) counts.merge(word, 1, Integer::sum);
        }
        Map<String, Long> again = Arrays.stream(text).parallel().flatMap(line -> Arrays.stream(line.trim().split(" +")))
            .collect(Collectors.groupingByConcurrent(word -> word, Collectors.counting()));
        for (Map.Entry<String, Long> entry : again.entrySet()) {
            if (counts.get(entry.getKey()) != entry.getValue().intValue()) throw new AssertionError(entry);
        }
        int hash = 0;
        for (Map.Entry<String, Integer> entry : new TreeMap<>(counts).entrySet()) hash = 31 * hash + entry.hashCode();
        System.out.println(bytes + " bytes, " + counts.size() + " words, " + hash);
    }
}
