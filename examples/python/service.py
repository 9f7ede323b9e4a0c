# A service that acts once, whatever comes again: the message's id goes into the transaction that does the work, at every delivery. And it
# publishes what came of it, through kpush:   python3 service.py PORT DATABASE TOPIC
import os, sqlite3, sys, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

port, database, topic = sys.argv[1:]
door = "http://" + os.environ.get("KPUSH_API_ADDR", "127.0.0.1:9401") + "/topics/" + topic
db = sqlite3.connect(database)
db.execute("CREATE TABLE IF NOT EXISTS done (id TEXT PRIMARY KEY)")
db.execute("CREATE TABLE IF NOT EXISTS account (customer TEXT PRIMARY KEY, total INTEGER)")

class Orders(BaseHTTPRequestHandler):
    def do_POST(self):
        total = int(self.rfile.read(int(self.headers["Content-Length"])))
        id, customer = self.headers["Kafka-Message-Id"], self.headers["Kafka-Key"]
        try:
            with db:  # both, or neither
                db.execute("INSERT INTO done VALUES (?)", (id,))
                db.execute("INSERT INTO account VALUES (?, ?) ON CONFLICT DO UPDATE SET total = total + excluded.total", (customer, total))
        except sqlite3.IntegrityError:
            pass  # it is done: only the answer, or what is published, may be missing
        try:  # the id goes along, for whoever reads it has the same question
            invoice = urllib.request.Request(door, b"invoice of %d" % total, {"Kafka-Key": customer, "Kafka-Header-Order": id})
            urllib.request.urlopen(invoice, timeout=15)
            self.send_response(204)
        except OSError:
            self.send_response(503)  # not published: again
        self.end_headers()

HTTPServer(("127.0.0.1", int(port)), Orders).serve_forever()
