"""Do acknowledged writes survive kill -9 of the server? Mixed writes, deletes and reads over HTTP; kills at random moments.

    python3 .ci/server_kill.py BINARY [OPERATIONS] [KILLS] [SEED]

Knows the last acknowledged state of each document, and of those under way when the server died both states. Loopback
only; needs nothing but Python.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

COLLECTION = "/v1/collections/kill"
WRITERS = 4


def start(binary, folder):
    """A server of this folder on a free port, once it is ready."""
    command = [binary, "--db", folder, "serve", "--listen", "127.0.0.1:0", "--log-filter", "warn"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "listening on" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, int(line.strip().rsplit(":", 1)[1])
    raise SystemExit("the server did not start")


def ask(connection, method, path, body=None):
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    if response.status >= 500:
        raise SystemExit(f"{method} {path}: {response.status} {text[:300]}")
    return response.status, json.loads(text) if text else None


class Writer(threading.Thread):
    """One client with documents of its own: `known[id]` is what was acknowledged, `doubt` what was under way."""

    def __init__(self, number, seed, known):
        super().__init__(daemon=True)
        self.number, self.random, self.known = number, random.Random(seed), known
        self.doubt, self.done, self.reads, self.fault = None, 0, 0, None

    def begin(self, port, operations):
        self.port, self.operations = port, operations
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            for _ in range(self.operations):
                self.step(connection)
                self.done += 1
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return
        except SystemExit as fault:
            self.fault = str(fault)
        self.doubt = None

    def step(self, connection):
        name = f"w{self.number}-{self.random.randrange(200)}"
        path = f"{COLLECTION}/documents"
        what = self.random.random()
        if what < 0.55:
            text = f"round {self.random.getrandbits(60)} of {name}"
            self.doubt = (name, text)
            status, answer = ask(connection, "POST", path, {"id": name, "text": text})
            if status >= 300:
                raise SystemExit(f"adding {name}: {status} {answer}")
            self.known[name] = text
        elif what < 0.7:
            self.doubt = (name, None)
            status, answer = ask(connection, "DELETE", f"{path}/{name}")
            if status not in (200, 204, 404):
                raise SystemExit(f"deleting {name}: {status} {answer}")
            self.known[name] = None
        else:
            status, answer = ask(connection, "GET", f"{path}/{name}")
            text = answer.get("text") if status == 200 else None
            if text != self.known.get(name):
                raise SystemExit(f"{name} is {text!r} and was acknowledged as {self.known.get(name)!r}")
            self.reads += 1
        self.doubt = None


def compare(port, states, doubts):
    """Every document is as it was acknowledged, or as it was about to be."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for known, doubt in zip(states, doubts):
        for name, text in list(known.items()):
            status, answer = ask(connection, "GET", f"{COLLECTION}/documents/{name}")
            found = answer.get("text") if status == 200 else None
            allowed = [text] + ([doubt[1]] if doubt and doubt[0] == name else [])
            if found not in allowed:
                raise SystemExit(f"LOST: {name} is {found!r}, and {text!r} was acknowledged (under way: {doubt})")
            known[name] = found
        if doubt and doubt[0] not in known:
            status, answer = ask(connection, "GET", f"{COLLECTION}/documents/{doubt[0]}")
            known[doubt[0]] = answer.get("text") if status == 200 else None


def main():
    binary = sys.argv[1]
    operations, kills = int((sys.argv[2:] + ["10000"])[0]), int((sys.argv[3:] + ["20"])[0])
    seed = int((sys.argv[4:] + [str(time.time_ns() % 1_000_000)])[0])
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    states, done, reads, killed = [{} for _ in range(WRITERS)], 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        database = os.path.join(folder, "quiver.db")
        process, port = start(binary, database)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        status, answer = ask(connection, "PUT", COLLECTION, {})
        if status >= 300:
            raise SystemExit(f"making the collection: {status} {answer}")
        share = -(-operations // (kills + 1))
        while done < operations:
            writers = [Writer(number, chance.getrandbits(40), states[number]) for number in range(WRITERS)]
            for writer in writers:
                # More than their share, so that they are at work when the server dies.
                writer.begin(port, 4 * share if killed < kills else -(-(operations - done) // WRITERS))
            target = int(share * chance.uniform(0.5, 1.5))
            if killed < kills:
                while sum(writer.done for writer in writers) < target and any(w.is_alive() for w in writers):
                    time.sleep(chance.uniform(0.0, 0.01))
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
            for writer in writers:
                writer.join()
                done, reads = done + writer.done, reads + writer.reads
                if writer.fault:
                    raise SystemExit(writer.fault)
            if process.poll() is None and killed >= kills and done >= operations:
                process.send_signal(signal.SIGTERM)
                if process.wait(60) != 0:
                    raise SystemExit(f"the server ended with {process.returncode}")
            process.wait(60)
            process, port = start(binary, database)
            compare(port, states, [writer.doubt for writer in writers])
            print(f"{done} operations, {killed} kills", flush=True)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    living = sum(text is not None for known in states for text in known.values())
    print(f"{done} operations ({reads} reads), {killed} kills, {living} documents at the end, none lost")


main()
