import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes one record per line of stdin (key, tab, value) with Kafka's own client and its default partitioner. */
class Produce {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0]);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            List<Future<?>> sent = new ArrayList<>();
            for (String line; (line = lines.readLine()) != null;) {
                String[] parts = line.split("\t", 2);
                sent.add(producer.send(new ProducerRecord<>(arguments[1], parts[0], parts[1])));
            }
            for (Future<?> one : sent) {
                one.get();
            }
        }
    }
}
