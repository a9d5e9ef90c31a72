import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.Pipe;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

/** Native code called from Java: channels, mapped files, direct buffers, pipes, checksums and compression. */
public class Files {
    public static void main(String[] arguments) throws Exception {
        int rounds = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 40;
        Path path = java.nio.file.Files.createTempFile("files", ".bin");
        CRC32 sum = new CRC32();
        ByteBuffer direct = ByteBuffer.allocateDirect(64 << 10);
        byte[] bytes = new byte[64 << 10];
        Pipe pipe = Pipe.open();
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < bytes.length; i++) bytes[i] = (byte) (i * round >>> 3);
            Deflater deflater = new Deflater(1 + round % 9);
            deflater.setInput(bytes);
            deflater.finish();
            byte[] packed = new byte[bytes.length + 1024];
            int length = deflater.deflate(packed);
            deflater.end();
            Inflater inflater = new Inflater();
            inflater.setInput(packed, 0, length);
            byte[] back = new byte[bytes.length];
            if (inflater.inflate(back) != bytes.length) throw new AssertionError("short");
            inflater.end();
            direct.clear().put(back).flip();
            try (FileChannel file = FileChannel.open(path, StandardOpenOption.WRITE, StandardOpenOption.READ)) {
                while (direct.hasRemaining()) file.write(direct);
                MappedByteBuffer mapped = file.map(FileChannel.MapMode.READ_WRITE, 0, bytes.length);
                mapped.put(round, (byte) round);
                sum.update(mapped);
            }
            ByteBuffer small = ByteBuffer.wrap(back, 0, 2048);
            pipe.sink().write(small);
            ByteBuffer got = ByteBuffer.allocateDirect(2048);
            while (got.hasRemaining()) pipe.source().read(got);
            sum.update(got.flip());
            ByteArrayOutputStream copy = new ByteArrayOutputStream();
            copy.write(back, round, 100);
            sum.update(copy.toByteArray());
        }
        java.nio.file.Files.delete(path);
        System.out.println(sum.getValue());
    }
}
