"""Embed a table with PySpark: each task pipes its Arrow batches through `quiver embed`.

    pip install pyspark pyarrow pandas
    python examples/spark_embed.py IN.parquet OUT_FOLDER [TEXT_COLUMN] [MODEL]

`quiver` must be on the path of every executor (or named by the variable QUIVER), built with `--features cli,parquet`.
It keeps no state and opens no database: a task that is run again gives the same rows. Null texts get null vectors.
"""

import os
import subprocess
import sys
import threading

import pyarrow
import pyarrow.ipc
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

source, target, text, model = [*sys.argv[1:], *["text", "builtin"][len(sys.argv) - 3 :]]
quiver = os.environ.get("QUIVER", "quiver")
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def embed(batches):
    """The batches of one task, with a column `embedding`. One process serves the whole task: a model is loaded once."""
    first = next(batches, None)
    if first is None:
        return
    command = [quiver, "embed", "--in", "-", "--out", "-", "--map", f"text={text}", "--model", model]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def feed():
        with process.stdin, pyarrow.ipc.new_stream(process.stdin, first.schema) as sink:
            sink.write_batch(first)
            for batch in batches:
                sink.write_batch(batch)

    feeder = threading.Thread(target=feed)
    feeder.start()
    for batch in pyarrow.ipc.open_stream(process.stdout):
        vectors = batch.column("embedding").cast(pyarrow.list_(pyarrow.float32()))
        yield pyarrow.RecordBatch.from_arrays([*batch.columns[:-1], vectors], names=batch.schema.names)
    feeder.join()
    # 4 says that some rows have no vector, which here is no error.
    if process.wait() not in (0, 4):
        raise RuntimeError(f"quiver embed ended with {process.returncode}")


spark = SparkSession.builder.appName("quiver-embed").getOrCreate()
rows = spark.read.parquet(source)
schema = StructType([*rows.schema.fields, StructField("embedding", ArrayType(FloatType()))])
rows.mapInArrow(embed, schema).write.mode("overwrite").parquet(target)
done = spark.read.parquet(target)
print(f"{done.count()} rows, {done.where('embedding IS NOT NULL').count()} with a vector, in {target}")
