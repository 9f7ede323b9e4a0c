// Publishes through kpush from Node: node publish.mjs TOPIC KEY VALUE
const [topic, key, value] = process.argv.slice(2);
const answer = await fetch(`http://${process.env.KPUSH_API_ADDR ?? '127.0.0.1:9401'}/topics/${topic}?key=${encodeURIComponent(key)}`, { method: 'POST', body: value });
const said = await answer.json();
if (answer.status !== 200) throw new Error(`${answer.status}: ${said.message}${said.retriable ? ' (try again)' : ''}`);
console.log(`${said.topic}/${said.partition}/${said.offset}`);
