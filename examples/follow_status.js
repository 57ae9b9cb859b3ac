// Follow what becomes of emails: node examples/follow_status.js BOOTSTRAP GROUP [TOPIC]. One line for each news.
const { Kafka, logLevel } = require('kafkajs');

const [bootstrap, groupId, topic = 'email.status'] = process.argv.slice(2);
const consumer = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR }).consumer({ groupId });
const ranks = new Map(); // of the emails seen so far; a service keeps it beside what it knows of them

(async () => {
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => {
    if (message.value === null) return ranks.delete(message.key.toString()); // forgotten, 30 days after its end
    const email = JSON.parse(message.value);
    if (email.rank <= (ranks.get(email.id) ?? -1)) return; // a repeat, or late
    ranks.set(email.id, email.rank);
    console.log(email.id, email.status, email.reference ?? 'None');
  } });
})();
