# A service that acts once, whatever comes again: the message's id goes into the transaction that does the work, at every delivery. And it
# publishes what came of it, through kpush:   python3 service.py PORT DATABASE TOPIC
import base64, os, sqlite3, sys, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

port, database, topic = sys.argv[1:]
door = "http://" + os.environ.get("KPUSH_API_ADDR", "127.0.0.1:9401") + "/topics/" + topic
db = sqlite3.connect(database)
db.execute("CREATE TABLE IF NOT EXISTS done (id TEXT PRIMARY KEY)")
db.execute("CREATE TABLE IF NOT EXISTS account (customer TEXT PRIMARY KEY, total INTEGER)")

class Orders(BaseHTTPRequestHandler):
    def do_POST(self):
        value = self.rfile.read(int(self.headers["Content-Length"]))
        id, key, encoding = (self.headers["Kafka-" + name] for name in ("Message-Id", "Key", "Key-Encoding"))
        customer = base64.b64decode(key).decode() if encoding else "-" if key is None else key  # base64 is what is not visible ASCII; there may be no key
        try:
            total = int(value)
        except ValueError:
            return self.answer(422)  # the message's fault: a handler that throws breaks the connection, and is taken for a service that is down
        try:
            with db:  # both, or neither
                db.execute("INSERT INTO done VALUES (?)", (id,))
                db.execute("INSERT INTO account VALUES (?, ?) ON CONFLICT DO UPDATE SET total = total + excluded.total", (customer, total))
        except sqlite3.IntegrityError:
            pass  # it is done: only the answer, or what is published, may be missing
        try:  # the id goes along, for whoever reads it has the same question
            headers = {"Kafka-Header-Order": id, "Kafka-Key": key, "Kafka-Key-Encoding": encoding}  # the key as it came
            invoice = urllib.request.Request(door, b"invoice of %d" % total, {name: value for name, value in headers.items() if value is not None})
            urllib.request.urlopen(invoice, timeout=15)
            self.answer(204)
        except OSError as error:
            print("not published:", error.read() if isinstance(error, urllib.error.HTTPError) else error, file=sys.stderr)
            self.answer(503)  # again

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

HTTPServer(("127.0.0.1", int(port)), Orders).serve_forever()
