#!/usr/bin/env python3
"""Makes a million vectors out of a hundred thousand real ones.

    pip install numpy faiss-cpu
    python benches/peers/grow.py base.npy million/ --rows 1000000

1,000 rows are taken out first, as queries that nothing was tuned on. A new row is a real one plus 0.7 times the difference
of two of its 16 nearest, of length 1; so it leaves its origin the way that real neighbours differ. The real rows are among
the result, which is shuffled.

Whether it is as hard as real data is printed: the distances from the queries to their 1st, 10th and 100th nearest, and the
local intrinsic dimension (the maximum-likelihood estimate over 20 and 100 neighbours; Levina and Bickel, 2004). For MiniLM
sentences, whose medians are 0.85, 0.96 and 1.06 and whose dimensions are 30 and 27 among 99,000 real ones, the million has
0.84, 0.91 and 1.00, and 37 and 31: nearer neighbours, and harder to tell apart.
"""

import argparse
import os

import faiss
import numpy

NEAR = 16
SHARE = numpy.float32(0.7)
QUERIES = 1_000
BLOCK = 50_000


def normalised(rows):
    return numpy.ascontiguousarray(rows / numpy.linalg.norm(rows, axis=1, keepdims=True), dtype=numpy.float32)


def neighbours(rows):
    """Some of the nearest of each row, itself left out; nearly all of the true ones."""
    dims = rows.shape[1]
    lists = max(1, int(len(rows) ** 0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dims), dims, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(rows[:30_000])
    index.add(rows)
    index.nprobe = max(1, lists // 25)
    return index.search(rows, NEAR + 1)[1][:, 1:]


def grown(rows, near, count, random):
    origin = random.integers(0, len(rows), count)
    two = numpy.argsort(random.random((count, NEAR)), axis=1)[:, :2]
    one, other = (numpy.take_along_axis(near[origin], two[:, place : place + 1], 1)[:, 0] for place in (0, 1))
    return normalised(rows[origin] + SHARE * (rows[one] - rows[other]))


def distances(base, queries, count):
    """To the nearest of each query, ascending."""
    best = numpy.full((len(queries), 0), 0.0, dtype=numpy.float32)
    for start in range(0, len(base), BLOCK):
        index = faiss.IndexFlatIP(base.shape[1])
        index.add(numpy.ascontiguousarray(base[start : start + BLOCK]))
        best = -numpy.sort(-numpy.hstack([best, index.search(queries, count)[0]]), axis=1)[:, :count]
    return numpy.sqrt(numpy.maximum(2 - 2 * best, 1e-12))


def describe(name, base, queries):
    found = distances(base, queries, 101)
    dimension = lambda k: numpy.median(-1 / numpy.mean(numpy.log(found[:, 1:k] / found[:, k : k + 1]), axis=1))
    first, tenth, hundredth = (numpy.median(found[:, place]) for place in (0, 9, 99))
    print(f"{name}, {len(base)} rows: {first:.3f} {tenth:.3f} {hundredth:.3f}, {dimension(20):.1f} {dimension(100):.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    random = numpy.random.default_rng(11)
    rows = normalised(numpy.load(options.base))
    order = random.permutation(len(rows))
    queries, rows = rows[order[:QUERIES]], rows[order[QUERIES:]]
    describe("real", rows, queries)
    os.makedirs(options.folder, exist_ok=True)
    numpy.save(os.path.join(options.folder, "queries.npy"), queries)
    near, places = neighbours(rows), random.permutation(options.rows)
    file = os.path.join(options.folder, "base.npy")
    base = numpy.lib.format.open_memmap(file, "w+", numpy.float32, (options.rows, rows.shape[1]))
    base[places[: len(rows)]] = rows[: options.rows]
    for start in range(len(rows), options.rows, BLOCK):
        some = places[start : start + BLOCK]
        base[some] = grown(rows, near, len(some), random)
    describe("grown", base, queries)


if __name__ == "__main__":
    main()
