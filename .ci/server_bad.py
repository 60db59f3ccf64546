"""Does the server stay whole whatever it is sent? Every file of a JSON test suite and every naughty string, on every door.

    python3 .ci/server_bad.py BINARY FOLDER [SECONDS]

FOLDER holds `json-test-suite/test_parsing/*.json` and `naughty-strings/blns.json`. Nothing may be answered with 5xx, what
was taken must come back as it was sent, and the check of the database must find nothing. Ends after SECONDS (60), and says
then how much was left. Loopback only; needs nothing but Python.
"""

import collections
import http.client
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

DOCUMENTS = "/v1/collections/bad/documents"
SEARCH = "/v1/collections/bad/search"
POINTS = "/qdrant/collections/points/points"
# Where a whole body goes.
BODIES = [
    ("POST", DOCUMENTS), ("POST", DOCUMENTS + "/get"), ("POST", DOCUMENTS + "/delete"), ("POST", SEARCH),
    ("POST", SEARCH + "/batch"), ("POST", "/v1/collections/bad/context"), ("PUT", "/v1/collections/worse"),
    ("POST", "/v1/aliases"), ("POST", "/v1/embeddings"), ("POST", "/v1/rerank"), ("POST", "/v2/rerank"),
    ("POST", "/embed"), ("POST", "/rerank"), ("POST", "/tokenize"), ("PUT", "/qdrant/collections/worse"),
    ("PUT", POINTS), ("POST", POINTS + "/query"), ("POST", POINTS + "/scroll"), ("POST", POINTS + "/delete"),
    ("POST", "/mcp"),
]
# Where a value goes, in place of `@`.
VALUES = [
    ("POST", DOCUMENTS, '{"id": @, "text": "text"}'),
    ("POST", DOCUMENTS, '{"id": 1, "text": "text", "metadata": {"value": @}}'),
    ("POST", SEARCH, '{"query": "text", "filter": @}'),
    ("POST", SEARCH, '{"vector": @}'),
    ("POST", "/v1/embeddings", '{"model": "builtin", "input": @}'),
    ("POST", "/embed", '{"inputs": @}'),
    ("PUT", POINTS, '{"points": [{"id": 1, "vector": [1, 0], "payload": {"value": @}}]}'),
    ("POST", POINTS + "/query", '{"query": [1, 0], "filter": @}'),
]


class Server:
    """A live server, and what it answered."""

    def __init__(self, binary, folder):
        command = [binary, "--db", folder, "serve", "--listen", "127.0.0.1:0", "--log-filter", "warn"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "listening on" in line:
                self.port = int(line.strip().rsplit(":", 1)[1])
                break
        else:
            raise SystemExit("the server did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.connection, self.answered = None, collections.Counter()

    def send(self, method, path, body=None):
        """The status and the body of the answer, which must not be a fault of the server."""
        body = body.encode() if isinstance(body, str) else body
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        for attempt in range(3):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                self.connection.request(method, path, body, headers)
                response = self.connection.getresponse()
                text = response.read()
                break
            except (http.client.HTTPException, ConnectionError):
                # It may close a connection whose body it would not read.
                self.connection.close()
                self.connection = None
                if attempt == 2:
                    raise SystemExit(f"{method} {path}: no answer to {body[:200] if body else body!r}") from None
        self.answered[response.status // 100] += 1
        if response.status >= 500:
            raise SystemExit(f"{method} {path}: {response.status} {text[:300]!r} to {body[:300] if body else body!r}")
        return response.status, text

    def expect(self, method, path, body):
        status, text = self.send(method, path, json.dumps(body))
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {text[:300]!r}")
        return json.loads(text)


def send_file(server, content):
    """The bytes as a body, and as a value within one."""
    for method, path in BODIES:
        server.send(method, path, content)
    for method, path, body in VALUES:
        before, after = body.split("@")
        server.send(method, path, before.encode() + content + after.encode())


def send_string(server, number, text):
    """The string as an id, a text, a title, metadata, a query, a filter, a name, and an input of a model."""
    document = {"id": text, "text": f"{text} number {number}", "title": text, "metadata": {"naughty": text, text: number}}
    status, answer = server.send("POST", DOCUMENTS, json.dumps(document))
    if status < 300:
        there = server.expect("POST", DOCUMENTS + "/get", {"ids": [text]})["documents"]
        if [(one["id"], one["text"]) for one in there] != [(text, document["text"])]:
            raise SystemExit(f"{text!r} was taken ({answer[:200]!r}) and came back as {there}")
    quoted = urllib.parse.quote(text, safe="")
    server.send("GET", f"{DOCUMENTS}/{quoted}?id_type=string")
    server.send("GET", f"/v1/collections/{quoted}")
    server.send("PUT", f"/v1/collections/{quoted}", "{}")
    server.send("PUT", f"/v1/aliases/{quoted}", '{"collection": "bad"}')
    for body in (
        {"query": text, "syntax": True, "highlight": True, "limit": 3},
        {"query": text, "filter": {"naughty": text}, "mode": "text", "highlight": True, "limit": 3},
        {"query": "number", "filter": text, "limit": 1},
        {"query": "number", "filter": {text: text}, "limit": 1},
    ):
        server.send("POST", SEARCH, json.dumps(body))
    server.send("POST", "/v1/embeddings", json.dumps({"model": "builtin", "input": [text]}))
    server.send("POST", "/v1/embeddings", json.dumps({"model": text, "input": "text"}))
    server.send("POST", "/v2/rerank", json.dumps({"model": text, "query": text, "documents": [text, ""]}))
    server.send("POST", "/embed", json.dumps({"inputs": [text]}))
    server.send("POST", "/rerank", json.dumps({"query": text, "texts": [text, text]}))
    point = {"id": number, "vector": [1, 0.5], "payload": {"naughty": text, text: text}}
    server.send("PUT", POINTS + "?wait=true", json.dumps({"points": [point]}))
    matching = {"must": [{"key": "naughty", "match": {"value": text}}]}
    server.send("POST", POINTS + "/scroll", json.dumps({"filter": matching, "limit": 3}))
    server.send("POST", POINTS + "/query", json.dumps({"query": [1, 0.5], "filter": {"must": [{"key": text, "match": {"text": text}}]}}))


def main():
    binary, folder, seconds = sys.argv[1], pathlib.Path(sys.argv[2]), float((sys.argv[3:] + ["60"])[0])
    files = sorted((folder / "json-test-suite/test_parsing").glob("*.json"))
    strings = json.loads((folder / "naughty-strings/blns.json").read_text(encoding="utf-8"))
    if not files or not strings:
        raise SystemExit(f"there is nothing to send in {folder}")
    # Both kinds to the end of the time, however short it is.
    work = [(at / len(files), send_file, (file.read_bytes(),)) for at, file in enumerate(files)]
    work += [(at / len(strings), send_string, (at, text)) for at, text in enumerate(strings)]
    work.sort(key=lambda one: one[0])
    with tempfile.TemporaryDirectory() as database:
        server, done = Server(binary, database + "/quiver.db"), 0
        try:
            server.expect("PUT", "/v1/collections/bad", {})
            server.expect("PUT", "/qdrant/collections/points", {"vectors": {"size": 2, "distance": "Cosine"}})
            began = time.monotonic()
            for _, send, arguments in work:
                if time.monotonic() - began > seconds:
                    break
                send(server, *arguments)
                done += 1
            took = time.monotonic() - began
            violations = server.expect("POST", "/v1/check", {})["violations"]
            server.process.terminate()
            code = server.process.wait(60)
        finally:
            server.process.kill()
    by_class = ", ".join(f"{count} x {status}xx" for status, count in sorted(server.answered.items()))
    print(f"{done} of {len(work)} files and strings in {took:.0f} s: {by_class}; {len(violations)} violations")
    # A server that takes nothing, or refuses nothing, was not asked what it was meant to be.
    if code != 0 or violations or not (server.answered[2] and server.answered[4]):
        raise SystemExit(f"exit {code}, {violations[:10]}")


main()
