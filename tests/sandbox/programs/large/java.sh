# needs: java javac jar
# says: 5050

mkdir -p src/a out
cat >src/a/Main.java <<'END'
package a;

import java.util.stream.IntStream;

public class Main {
    public static void main(String[] words) {
        System.out.println(IntStream.range(0, 101).parallel().sum());
    }
}
END
javac -d out src/a/Main.java && jar cfe a.jar a.Main -C out . && java -jar a.jar
