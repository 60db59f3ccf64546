#!/usr/bin/env python3
"""How fast are the embedded vector databases of others, at which recall?

    pip install numpy lancedb chromadb
    python benches/peers/db.py base.npy queries.npy

Both files hold float32 rows, compared by cosine. What is asked is what `quiver bench filter`, `open` and `ingest` ask:
rows with an id, a vector, a text of 20 words and a number `draw` below 1,000, kept in a temporary folder; queries one at a
time from one thread, k = 10, text and metadata returned; without a filter, and with `draw < 100`, which selects 10 %.
`draw` is row * 2654435761 mod 2^32 * 1000 / 2^32.

LanceDB: IVF_HNSW_SQ and an index over `draw`; --refine has it compare so many times more in full precision. Chroma: HNSW.
Both build with their defaults and search once with theirs (`ef` 0) and once with each other --ef. "write+index s" ends when
all is durable and indexed. Time is wall-clock, so a busy machine shows in all of it.
"""

import argparse
import os
import pathlib
import random
import tempfile
import time

import numpy

K = 10
WORDS = "the of and to a in that is was he for it with as his on be at by this memory thread value error model".split()


def nearest(base, queries, rows):
    """The true nearest of these rows by cosine, shape (queries, K)."""
    normalised = base[rows] / numpy.linalg.norm(base[rows], axis=1, keepdims=True)
    scores = queries @ normalised.T
    best = numpy.argpartition(-scores, K - 1, axis=1)[:, :K]
    return rows[best]


def disk_mb(folder):
    return sum(file.stat().st_size for file in pathlib.Path(folder).rglob("*") if file.is_file()) / 1e6


class Lance:
    def __init__(self, options):
        import lancedb

        self.lancedb, self.options = lancedb, options
        self.name = f"LanceDB {lancedb.__version__}"

    def build(self, folder, base, texts, draws):
        import pyarrow
        from lancedb.index import BTree, HnswSq

        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(base.ravel()), base.shape[1])
        columns = {"id": numpy.arange(len(base)), "vector": vectors, "text": texts, "draw": draws}
        self.table = self.lancedb.connect(folder).create_table("bench", pyarrow.table(columns))
        self.table.create_index("vector", config=HnswSq(distance_type="cosine"))
        self.table.create_index("draw", config=BTree())

    def ready(self, ef):
        self.ef = ef

    def search(self, vector, below):
        question = self.table.search(vector).distance_type("cosine").limit(K)
        if self.ef:
            question = question.ef(self.ef)
        if self.options.refine:
            question = question.refine_factor(self.options.refine)
        if below:
            question = question.where(f"draw < {below}", prefilter=True)
        return [row["id"] for row in question.select(["id", "text", "draw", "_distance"]).to_list()]


class Chroma:
    def __init__(self, options):
        import chromadb

        self.chromadb = chromadb
        self.name = f"Chroma {chromadb.__version__}"

    def build(self, folder, base, texts, draws):
        settings = self.chromadb.Settings(anonymized_telemetry=False)
        client = self.chromadb.PersistentClient(folder, settings=settings)
        self.collection = client.create_collection("bench", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
        step = 5_000
        for start in range(0, len(base), step):
            rows = range(start, min(start + step, len(base)))
            self.collection.add(
                ids=[str(row) for row in rows],
                embeddings=base[start : start + step],
                documents=texts[start : start + step],
                metadatas=[{"draw": int(draws[row])} for row in rows],
            )
        # The index is brought up to date by the first question.
        self.search(base[0], None)

    def ready(self, ef):
        if ef:
            self.collection.modify(configuration={"hnsw": {"ef_search": ef}})

    def search(self, vector, below):
        where = {"draw": {"$lt": below}} if below else None
        include = ["documents", "metadatas", "distances"]
        found = self.collection.query(query_embeddings=vector[None], n_results=K, where=where, include=include)
        return [int(row) for row in found["ids"][0]]


def measure(peer, queries, truth, below):
    found = [peer.search(query, below) for query in queries]
    times = []
    for query in queries:
        start = time.perf_counter()
        peer.search(query, below)
        times.append(time.perf_counter() - start)
    hits = sum(len(set(row) & set(map(int, true))) for row, true in zip(found, truth))
    p50, p99 = numpy.percentile(times, [50, 99]) * 1e3
    return hits / truth.size, p50, p99


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("queries")
    parser.add_argument("--ef", type=int, nargs="+", default=[0, 64, 128])
    parser.add_argument("--refine", type=int)
    parser.add_argument("--only", default="", help="peers whose name contains this")
    options = parser.parse_args()
    base = numpy.ascontiguousarray(numpy.load(options.base), dtype=numpy.float32)
    queries = numpy.ascontiguousarray(numpy.load(options.queries), dtype=numpy.float32)
    numbers = numpy.arange(len(base), dtype=numpy.uint64)
    draws = ((numbers * 2654435761 % 2**32) * 1000 >> 32).astype(numpy.int64)
    words = random.Random(7)
    texts = [" ".join(words.choices(WORDS, k=20)) for _ in range(len(base))]
    rows = numpy.arange(len(base))
    truths = {None: nearest(base, queries, rows), 100: nearest(base, queries, rows[draws < 100])}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{len(base)} vectors of {base.shape[1]} dimensions, {len(queries)} queries, {os.cpu_count()} cores, load {load:.1f}")
    header = f"{'database':<16}{'write+index s':>14}{'disk MB':>9}{'ef':>5}{'filter':>12}{'recall@10':>11}"
    print(f"{header}{'p50 ms':>8}{'p99 ms':>8}")
    for make in [Lance, Chroma]:
        if options.only.lower() not in make.__name__.lower():
            continue
        peer = make(options)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            peer.ready(0)
            peer.build(folder, base, texts, draws)
            seconds, size = time.perf_counter() - start, disk_mb(folder)
            for ef in options.ef:
                peer.ready(ef)
                for below, truth in truths.items():
                    recall, p50, p99 = measure(peer, queries, truth, below)
                    row = f"{peer.name:<16}{seconds:>14.1f}{size:>9.0f}{ef:>5}{f'draw < {below}' if below else 'none':>12}"
                    print(f"{row}{recall:>11.4f}{p50:>8.2f}{p99:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
