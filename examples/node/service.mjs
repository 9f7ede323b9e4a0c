// A service that acts once, whatever comes again: its work is a line in a ledger, and the message's id is in the same line, so that both are there or
// neither. (With a database: in the same transaction, as ../python/service.py.) And it publishes what came of it: node service.mjs PORT LEDGER TOPIC
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const [port, ledger, topic] = process.argv.slice(2);
const door = `http://${process.env.KPUSH_API_ADDR ?? '127.0.0.1:9401'}/topics/${topic}`;
const done = new Set(existsSync(ledger) ? readFileSync(ledger, 'utf8').split('\n').map((line) => line.split(' ')[0]) : []);

createServer(async (request, response) => {
  const { 'kafka-message-id': id, 'kafka-key': key, 'kafka-key-encoding': encoding } = request.headers;
  const customer = encoding ? Buffer.from(key, encoding).toString() : key ?? '-'; // base64 is what is not visible ASCII; a message may have no key
  let total = '';
  for await (const part of request) total += part;
  if (!done.has(id)) {
    appendFileSync(ledger, `${id} ${customer} ${total}\n`);
    done.add(id);
  }
  const headers = new Headers({ 'Kafka-Header-Order': id }); // for whoever reads it has the same question
  if (key !== undefined) headers.set('Kafka-Key', key); // as it came
  if (encoding) headers.set('Kafka-Key-Encoding', encoding);
  const answer = await fetch(door, { method: 'POST', body: `invoice of ${total}`, headers }).catch((error) => new Response(String(error), { status: 503 }));
  if (!answer.ok) console.error('not published:', await answer.text());
  response.writeHead(answer.ok ? 204 : 503).end(); // 503: again
}).listen(Number(port), '127.0.0.1');
