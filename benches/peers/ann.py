#!/usr/bin/env python3
"""How fast are the approximate indexes of others, at which recall?

    pip install numpy faiss-cpu hnswlib usearch scalable-vs
    python benches/peers/ann.py base.npy queries.npy

Both files hold float32 rows; rows are normalised first, so the dot product is the cosine. Graphs have M = 16 (32 links a
node at the base), ef_construction = 200 (SVS: degree 32, window 200, f32 or codes of 8 or of 4 and 8 bits), and are built
on --threads threads; queries run one at a time on one thread.
"QPS" is the best of --rounds passes over all queries, "p50 us" the median of single calls in it, which a busy machine
disturbs less. Recall counts the true 10 nearest among the 10 found.
"""

import argparse
import os
import tempfile
import time

import faiss
import hnswlib
import numpy
import svs
import usearch.index

K = 10
M = 16
EF_CONSTRUCTION = 200


def normalised(path):
    rows = numpy.load(path).astype(numpy.float32)
    return numpy.ascontiguousarray(rows / numpy.linalg.norm(rows, axis=1, keepdims=True))


def nearest(base, queries):
    """The true nearest, shape (queries, K)."""
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    return index.search(queries, K)[1]


class FaissHnsw:
    def __init__(self, name, make):
        self.name, self.make = name, make

    def build(self, base, threads):
        faiss.omp_set_num_threads(threads)
        self.index = self.make(base.shape[1])
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.train(base)
        self.index.add(base)

    def ready(self, ef):
        faiss.omp_set_num_threads(1)
        self.index.hnsw.efSearch = ef

    def search(self, query):
        return self.index.search(query, K)[1][0]


class Hnswlib:
    name = "hnswlib f32"

    def build(self, base, threads):
        self.index = hnswlib.Index(space="ip", dim=base.shape[1])
        self.index.init_index(max_elements=len(base), ef_construction=EF_CONSTRUCTION, M=M)
        self.index.add_items(base, num_threads=threads)

    def ready(self, ef):
        self.index.set_ef(ef)
        self.index.set_num_threads(1)

    def search(self, query):
        return self.index.knn_query(query, k=K, num_threads=1)[0][0]


class Usearch:
    def __init__(self, dtype):
        self.name, self.dtype = f"usearch {dtype}", dtype

    def build(self, base, threads):
        self.index = usearch.index.Index(
            ndim=base.shape[1], metric="cos", dtype=self.dtype, connectivity=M, expansion_add=EF_CONSTRUCTION
        )
        self.index.add(numpy.arange(len(base)), base, threads=threads)

    def ready(self, ef):
        self.index.expansion_search = ef

    def search(self, query):
        return self.index.search(query[0], K, threads=1).keys


class Svs:
    """A Vamana graph over f32, or over codes of `primary` bits; with `residual` bits more, what is found is ranked again."""

    def __init__(self, name, primary=0, residual=0):
        self.name, self.bits = name, (primary, residual) if primary else None

    def build(self, base, threads):
        recipe = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=2 * M, window_size=EF_CONSTRUCTION)
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "base.fvecs")
            svs.write_vecs(base, file)
            rows = svs.VectorDataLoader(file, svs.DataType.float32, dims=base.shape[1])
            rows = svs.LVQLoader(rows, *self.bits) if self.bits else rows
            self.index = svs.Vamana.build(recipe, rows, svs.DistanceType.MIP, threads)

    def ready(self, ef):
        self.index.num_threads = 1
        self.index.search_window_size = ef

    def search(self, query):
        return self.index.search(query, K)[0][0]


def peers():
    product = faiss.METRIC_INNER_PRODUCT
    eight_bits = faiss.ScalarQuantizer.QT_8bit
    yield FaissHnsw("faiss HNSW f32", lambda dims: faiss.IndexHNSWFlat(dims, M, product))
    yield FaissHnsw("faiss HNSW SQ8", lambda dims: faiss.IndexHNSWSQ(dims, eight_bits, M, product))
    yield Hnswlib()
    yield Usearch("f32")
    yield Usearch("i8")
    yield Svs("svs f32")
    yield Svs("svs LVQ8", 8, 0)
    yield Svs("svs LVQ4x8", 4, 8)


def measure(peer, queries, truth, ef, rounds):
    peer.ready(ef)
    best, median = float("inf"), 0.0
    for _ in range(rounds):
        found, times = [], [time.perf_counter()]
        for place in range(len(queries)):
            found.append(peer.search(queries[place : place + 1]))
            times.append(time.perf_counter())
        if times[-1] - times[0] < best:
            best, median = times[-1] - times[0], numpy.median(numpy.diff(times))
    hits = sum(len(set(map(int, row)) & set(map(int, true))) for row, true in zip(found, truth))
    return hits / truth.size, len(queries) / best, median * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("queries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ef", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--only", help="peers whose name contains this")
    options = parser.parse_args()
    base, queries = normalised(options.base), normalised(options.queries)
    truth = nearest(base, queries)
    print(f"{len(base)} vectors of {base.shape[1]} dimensions, {len(queries)} queries, {options.threads} build threads")
    print(f"{'index':<16}{'build s':>9}{'ef':>6}{'recall@10':>11}{'QPS':>9}{'p50 us':>8}")
    for peer in peers():
        if options.only and options.only not in peer.name:
            continue
        start = time.perf_counter()
        peer.build(base, options.threads)
        seconds = time.perf_counter() - start
        for ef in options.ef:
            recall, qps, p50 = measure(peer, queries, truth, ef, options.rounds)
            print(f"{peer.name:<16}{seconds:>9.1f}{ef:>6}{recall:>11.4f}{qps:>9.0f}{p50:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
