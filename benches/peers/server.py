#!/usr/bin/env python3
"""How many searches a second does the server answer over loopback, beside Chroma's server?

    pip install numpy pyarrow chromadb    # and the load generator `wrk`
    python benches/peers/server.py target/release/quiver base.npy queries.npy

Both files hold float32 rows, compared by cosine. Each server holds the rows with an id, a vector, a text of 20 words and a
number; the clients ask with ready vectors, k = 10, text and metadata returned, over kept connections. One server runs at a
time, on the same cores as the clients; the rounds alternate. Recall@10 is that of the answers over HTTP.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from db import K, WORDS, Chroma, nearest  # noqa: E402

WRK = """
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local at = 0
request = function()
  at = at % #bodies + 1
  return wrk.format("POST", os.getenv("TARGET"), {["Content-Type"] = "application/json"}, bodies[at])
end
done = function(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %f %f %f %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, failed))
end
"""


def post(url, body):
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def wait_for(url):
    for _ in range(600):
        try:
            urllib.request.urlopen(url).read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no answer at {url}")


class Quiver:
    name = "QuiverDB"

    def __init__(self, program, folder):
        self.program, self.folder = program, str(pathlib.Path(folder) / "quiver.db")

    def fill(self, base, texts, draws):
        import pyarrow
        import pyarrow.parquet

        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(base.ravel()), base.shape[1])
        file = self.folder + ".parquet"
        columns = {"id": numpy.arange(len(base)), "vector": vectors, "text": texts, "draw": draws}
        pyarrow.parquet.write_table(pyarrow.table(columns), file)
        quiver = [self.program, "--db", self.folder]
        create = ["collections", "create", "bench", "--model", "external", "--dims", str(base.shape[1])]
        subprocess.run([*quiver, *create], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*quiver, "import", "-c", "bench", file], check=True, stdout=subprocess.DEVNULL)

    def start(self, port):
        command = [self.program, "--db", self.folder, "serve", "--listen", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(f"http://127.0.0.1:{port}/healthz")
        return f"http://127.0.0.1:{port}/v1/collections/bench/search"

    def body(self, vector):
        return json.dumps({"vector": vector.tolist(), "limit": K})

    def ids(self, answer):
        return [int(hit["document"]) for hit in answer["hits"]]

    def stop(self):
        self.process.terminate()
        self.process.wait()


class ChromaServer:
    name = "Chroma"

    def __init__(self, folder):
        self.folder = str(pathlib.Path(folder) / "chroma")

    def fill(self, base, texts, draws):
        # In a process of its own, so that the server finds the folder closed.
        if os.fork() == 0:
            chroma = Chroma(None)
            chroma.ready(0)
            chroma.build(self.folder, base, texts, draws)
            os._exit(0)
        os.wait()

    def start(self, port):
        program = str(pathlib.Path(sys.executable).parent / "chroma")
        command = [program, "run", "--path", self.folder, "--host", "127.0.0.1", "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(f"http://127.0.0.1:{port}/api/v2/heartbeat")
        whole = f"http://127.0.0.1:{port}/api/v2/tenants/default_tenant/databases/default_database/collections"
        with urllib.request.urlopen(whole) as answer:
            [collection] = json.load(answer)
        return f"{whole}/{collection['id']}/query"

    def body(self, vector):
        include = ["documents", "metadatas", "distances"]
        return json.dumps({"query_embeddings": [vector.tolist()], "n_results": K, "include": include})

    def ids(self, answer):
        return [int(row) for row in answer["ids"][0]]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def load(url, bodies, folder, connections, seconds):
    script = pathlib.Path(folder) / "load.lua"
    script.write_text(WRK)
    origin, path = re.fullmatch(r"(http://[^/]+)(/.*)", url).groups()
    command = ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s", "-s", str(script), origin]
    environment = {**os.environ, "BODIES": str(bodies), "TARGET": path}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    rate, p50, p99, failed = re.search(r"RESULT (\S+) (\S+) (\S+) (\S+)", out).groups()
    return float(rate), float(p50), float(p99), int(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quiver")
    parser.add_argument("base")
    parser.add_argument("queries")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--port", type=int, default=7399)
    options = parser.parse_args()
    base = numpy.ascontiguousarray(numpy.load(options.base), dtype=numpy.float32)
    queries = numpy.ascontiguousarray(numpy.load(options.queries), dtype=numpy.float32)
    words = random.Random(7)
    texts = [" ".join(words.choices(WORDS, k=20)) for _ in range(len(base))]
    draws = numpy.arange(len(base)) * 7919 % 1000
    truth = nearest(base, queries, numpy.arange(len(base)))
    print(f"{len(base)} vectors of {base.shape[1]} dimensions, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'server':<10}{'connections':>12}{'searches/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}{'recall@10':>11}")
    with tempfile.TemporaryDirectory() as folder:
        peers = [Quiver(options.quiver, folder), ChromaServer(folder)]
        for peer in peers:
            start = time.perf_counter()
            peer.fill(base, texts, draws)
            print(f"{peer.name} was filled in {time.perf_counter() - start:.1f} s", flush=True)
        # A port of its own each time: not every server takes one whose last connections are not forgotten yet.
        ports = iter(range(options.port, options.port + 2 * options.rounds))
        for _ in range(options.rounds):
            for peer in peers:
                url = peer.start(next(ports))
                found = [peer.ids(post(url, peer.body(query))) for query in queries[:200]]
                recall = sum(len(set(row) & set(map(int, true))) for row, true in zip(found, truth)) / (len(found) * K)
                bodies = pathlib.Path(folder) / "bodies"
                bodies.write_text("\n".join(peer.body(query) for query in queries))
                for connections in options.connections:
                    rate, p50, p99, failed = load(url, bodies, folder, connections, options.seconds)
                    row = f"{peer.name:<10}{connections:>12}{rate:>12.0f}{p50:>9.2f}{p99:>9.2f}{failed:>8}{recall:>11.4f}"
                    print(row, flush=True)
                peer.stop()


if __name__ == "__main__":
    main()
