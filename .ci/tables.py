"""Do PyArrow, pandas, Polars, DuckDB and LanceDB read what `quiver export` and `quiver embed` write?

    python3 .ci/tables.py target/debug/quiver pyarrow,pandas,polars,duckdb

The second argument names the packages that must be there; others are used where they are. Every value is compared with
the same export as JSON Lines.
"""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys
import tempfile

quiver, needed = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2].split(",") if len(sys.argv) > 2 else ["pyarrow"]
there = {name for name in ["pyarrow", "pandas", "polars", "duckdb", "lancedb"] if importlib.util.find_spec(name)}
missing = [name for name in needed if name not in there]
assert not missing, f"not installed: {missing}"

folder = pathlib.Path(tempfile.mkdtemp(prefix="quiver-tables-"))
LANGUAGES = ["en", "de", "日本語"]
documents = [
    {
        "id": f"doc-{n}",
        "title": f"Title {n}",
        "text": f"Passage {n} is about " + " ".join(f"word{(n * k) % 97}" for k in range(5 + n % 400)) + ".",
        "metadata": {
            "year": 1990 + n % 40,
            "score": n / 7,
            "draft": n % 3 == 0,
            "lang": LANGUAGES[n % 3],
            "tags": [f"t{k}" for k in range(n % 4)],
            "author": {"name": f"Ann {n}", "born": {"year": 1900 + n % 99}},
            "large": 2**63 + n,
            **({"sometimes": -n} if n % 2 else {}),
            "mixed": n if n % 2 else str(n),
            "with.dot": n,
        },
    }
    for n in range(500)
]


def run(*arguments, given=None, code=0):
    done = subprocess.run([quiver, *arguments], input=given, cwd=folder, capture_output=True)
    assert done.returncode == code, (arguments, done.returncode, done.stderr.decode())
    return done.stdout


def lines(*arguments):
    return [json.loads(line) for line in run(*arguments).splitlines()]


def same_vector(one, other):
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(one, other))


run("add", "-", given="\n".join(json.dumps(document) for document in documents).encode())
for name in ["documents.parquet", "documents.arrow", "documents.feather"]:
    run("export", name, "--vectors")
for name in ["chunks.parquet", "chunks.arrow"]:
    run("export", name, "--chunks", "--vectors")
truth = {row["id"]: row for row in lines("export", "-", "--vectors")}
chunks = {row["id"]: row for row in lines("export", "-", "--chunks", "--vectors")}
assert len(truth) == len(documents) and len(chunks) > len(documents)
COLUMNS = ["year", "score", "draft", "lang", "tags", "author", "large", "sometimes"]


def compare(rows, how):
    """Rows as dictionaries, with the documents that JSON Lines tell."""
    rows = list(rows)
    assert len(rows) == len(truth), (how, len(rows))
    for row in rows:
        expected = truth[row["id"]]
        assert (row["title"], row["text"]) == (expected["title"], expected["text"]), (how, row["id"])
        for column in COLUMNS:
            given, value = expected["metadata"].get(column), row[column]
            value = None if isinstance(value, float) and math.isnan(value) else value
            value = list(value) if column == "tags" else value
            assert value == given, (how, row["id"], column, value, given)
        rest = json.loads(row["metadata"])
        assert rest["mixed"] == expected["metadata"]["mixed"] and rest["with.dot"] == expected["metadata"]["with.dot"]
    print(f"{how}: {len(rows)} documents, {len(COLUMNS)} columns of metadata")


def compare_chunks(rows, how):
    rows = list(rows)
    assert len(rows) == len(chunks), (how, len(rows))
    for row in rows:
        expected = chunks[row["id"]]
        for column in ["document", "chunk", "start", "end", "heading", "text"]:
            assert row[column] == expected[column], (how, row["id"], column)
        assert same_vector(row["vector"], expected["vector"]), (how, row["id"])
    print(f"{how}: {len(rows)} passages with vectors")


import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

table = pyarrow.parquet.read_table(folder / "documents.parquet")
compare(table.to_pylist(), "PyArrow, Parquet")
types = {field.name: str(field.type) for field in table.schema}
assert types["year"] == "int64" and types["score"] == "double" and types["draft"] == "bool", types
assert types["large"] == "uint64" and types["lang"] == "string" and types["author"].startswith("struct<name: string"), types
marker = json.loads(table.schema.metadata[b"quiverdb"])
assert marker["collection"] == "default" and marker["models"]["default"], marker
carried = {row["id"]: row["chunks"] for row in table.select(["id", "chunks"]).to_pylist()}
for key, row in truth.items():
    for one, other in zip(carried[key], row["embedded"]["chunks"], strict=True):
        assert (one["start"], one["end"], one["digest"]) == (other["start"], other["end"], other["digest"])
        assert same_vector(one["vector"], other["vectors"]["default"])
compare(pyarrow.ipc.open_file(folder / "documents.arrow").read_all().to_pylist(), "PyArrow, Arrow file")
compare(pyarrow.feather.read_table(folder / "documents.feather").to_pylist(), "PyArrow, Feather")
stream = pyarrow.ipc.open_stream(run("export", "-", "--format", "arrow", "--chunks", "--vectors"))
compare_chunks(stream.read_all().to_pylist(), "PyArrow, Arrow stream")
flat = pyarrow.parquet.read_table(folder / "chunks.parquet")
assert flat.schema.field("vector").type == pyarrow.list_(pyarrow.field("item", pyarrow.float32(), False), 256)

if "pandas" in there:
    import pandas

    compare(pandas.read_parquet(folder / "documents.parquet").to_dict("records"), "pandas")
    compare_chunks(pandas.read_parquet(folder / "chunks.parquet").to_dict("records"), "pandas")
    compare(pandas.read_feather(folder / "documents.feather").to_dict("records"), "pandas, Feather")
if "polars" in there:
    import polars

    compare(polars.read_parquet(folder / "documents.parquet").to_dicts(), "Polars")
    compare_chunks(polars.read_parquet(folder / "chunks.parquet").to_dicts(), "Polars")
    compare_chunks(polars.read_ipc(folder / "chunks.arrow").to_dicts(), "Polars, Arrow file")
if "duckdb" in there:
    import duckdb

    def ask(query):
        answer = duckdb.sql(query)
        return [dict(zip(answer.columns, row)) for row in answer.fetchall()]

    compare(ask(f"SELECT * FROM '{folder}/documents.parquet'"), "DuckDB")
    compare_chunks(ask(f"SELECT * FROM '{folder}/chunks.parquet'"), "DuckDB")
    found = ask(f"SELECT count(*) AS n FROM '{folder}/documents.parquet' WHERE author.born.year = 1950 AND NOT draft")
    expected = [d for d in documents if d["metadata"]["author"]["born"]["year"] == 1950 and not d["metadata"]["draft"]]
    assert found == [{"n": len(expected)}], found
if "lancedb" in there:
    import lancedb

    passages = lancedb.connect(folder / "lance").create_table("passages", flat)
    compare_chunks(passages.to_arrow().to_pylist(), "LanceDB")
    query = flat.slice(7, 1).to_pylist()[0]
    assert passages.search(query["vector"]).limit(1).to_list()[0]["id"] == query["id"]
    whole = lancedb.connect(folder / "lance").create_table("documents", table)
    compare(whole.to_arrow().to_pylist(), "LanceDB")

# Tables in, tables out: all columns unchanged, and the vectors that lines get.
given = pyarrow.table(
    {
        "key": pyarrow.array([3, 1, 2, 9], pyarrow.int16()),
        "body": ["one bread", None, "two threads", "  "],
        "when": pyarrow.array([0, 1, None, 3], pyarrow.timestamp("us", "Europe/Berlin")),
        "kind": pyarrow.array(["a", "b", "a", None]).dictionary_encode(),
        "list": [[1], [], None, [2, None]],
    }
).replace_schema_metadata({"mine": "stays"})
pyarrow.parquet.write_table(given, folder / "in.parquet")
with pyarrow.ipc.new_stream(folder / "in.arrows", given.schema) as sink:
    sink.write_table(given, max_chunksize=2)
expected = [json.loads(line)["embedding"] for line in run("embed", given=b"one bread\ntwo threads\n").splitlines()]


def compare_embedded(out, how, source=given):
    rest = out.drop_columns(["embedding"])
    assert rest.to_pylist() == source.to_pylist(), how
    # A file of Arrow holds the values of dictionaries: it can have one dictionary only, and a stream many.
    for one, other in zip(rest.schema, source.schema):
        plain = other.type.value_type if pyarrow.types.is_dictionary(other.type) else other.type
        assert one.type in (other.type, plain), (how, one, other)
    assert out.schema.names == [*source.schema.names, "embedding"] and out.schema.metadata[b"mine"] == b"stays", how
    vectors = out["embedding"].to_pylist()
    assert vectors[1] is None and vectors[3] is None and same_vector(vectors[0], expected[0]), how
    assert same_vector(vectors[2], expected[1]), how
    print(f"quiver embed, {how}: {out.num_rows} rows")


report = json.loads(run("embed", "--in", "in.parquet", "--out", "out.parquet", "--map", "text=body", "--json", code=4))
assert report == {"rows": 4, "embedded": 2, "without": 2, "failed": 0, "truncated": 0}, report
out = pyarrow.parquet.read_table(folder / "out.parquet")
assert out.drop_columns(["embedding"]).schema.equals(pyarrow.parquet.read_schema(folder / "in.parquet")), out.schema
compare_embedded(out, "Parquet to Parquet")
run("embed", "--in", "in.arrows", "--out", "out.arrow", "--map", "text=body", code=4)
compare_embedded(pyarrow.ipc.open_file(folder / "out.arrow").read_all(), "stream to Arrow file")
piped = run("embed", "--in", "-", "--out", "-", "--map", "text=body", given=(folder / "in.arrows").read_bytes(), code=4)
compare_embedded(pyarrow.ipc.open_stream(piped).read_all(), "stream to stream")
run("embed", "--out", "lines.parquet", given=b"one bread\ntwo threads\n")
rows = pyarrow.parquet.read_table(folder / "lines.parquet").to_pylist()
assert [row["text"] for row in rows] == ["one bread", "two threads"] and same_vector(rows[1]["embedding"], expected[1])
if "pandas" in there:
    import numpy

    run("embed", "--out", "lines.npy", given=b"one bread\ntwo threads\n")
    assert numpy.allclose(numpy.load(folder / "lines.npy"), expected, rtol=1e-6)
print("tables: all read")
