// Writes one record per line of stdin (key, tab, value) with kafkajs and its default partitioner.
const { Kafka, logLevel } = require('kafkajs');

const [bootstrap, topic] = process.argv.slice(2);
const lines = require('fs').readFileSync(0, 'utf8').split('\n').filter(Boolean);
const messages = lines.map((line) => line.split('\t')).map(([key, value]) => ({ key, value }));

(async () => {
  const producer = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR }).producer();
  await producer.connect();
  await producer.send({ topic, acks: -1, messages });
  await producer.disconnect();
})();
