#!/usr/bin/env python3
"""How many texts a second does a plain Python loop over ONNX Runtime embed?

    pip install numpy onnxruntime tokenizers
    python benches/peers/embed.py --model all-MiniLM-L6-v2/ --texts passages.jsonl --threads 2

The loop that most applications write: batches of 32 in the order they come, padded to their longest, one session with as
many threads as there are cores, mean pooling, unit length. The same texts go through ours with
`quiver bench embed --model DIR --backend onnx --texts passages.jsonl`. Tokenisation counts. The best of --rounds is
printed, in seconds of the clock and of the processor: a busy machine takes away from the first only. Vectors are written with --out, to be compared.
"""

import argparse
import json
import os
import time

import numpy
import onnxruntime
from tokenizers import Tokenizer


def embed(session, tokenizer, texts, batch):
    names = {value.name for value in session.get_inputs()}
    vectors = []
    for start in range(0, len(texts), batch):
        encodings = tokenizer.encode_batch(texts[start : start + batch])
        feed = {
            "input_ids": numpy.array([encoding.ids for encoding in encodings], dtype=numpy.int64),
            "attention_mask": numpy.array([encoding.attention_mask for encoding in encodings], dtype=numpy.int64),
        }
        if "token_type_ids" in names:
            feed["token_type_ids"] = numpy.zeros_like(feed["input_ids"])
        states = session.run(None, feed)[0]
        mask = feed["attention_mask"][..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        vectors.append(mean / numpy.linalg.norm(mean, axis=1, keepdims=True))
    return numpy.concatenate(vectors)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a directory with tokenizer.json")
    parser.add_argument("--graph", default="onnx/model.onnx", help="the graph in it")
    parser.add_argument("--texts", required=True, help='JSONL of {"text"}')
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="write the vectors here (.npy)")
    options = parser.parse_args()
    with open(options.texts) as file:
        texts = [json.loads(line)["text"] for line in file]
    tokenizer = Tokenizer.from_file(os.path.join(options.model, "tokenizer.json"))
    tokenizer.enable_truncation(options.max_tokens)
    tokenizer.enable_padding()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    graph = os.path.join(options.model, options.graph)
    session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    embed(session, tokenizer, texts[: options.batch], options.batch)
    rates, rates_cpu = [], []
    for _ in range(options.rounds):
        start, cpu = time.perf_counter(), time.process_time()
        vectors = embed(session, tokenizer, texts, options.batch)
        rates.append(len(texts) / (time.perf_counter() - start))
        rates_cpu.append(len(texts) / (time.process_time() - cpu))
    if options.out:
        numpy.save(options.out, vectors)
    print(json.dumps({"backend": f"onnxruntime {onnxruntime.__version__}", "graph": options.graph, "threads": options.threads,
                      "batch": options.batch, "texts": len(texts), "texts_per_s": round(max(rates), 1), "texts_per_cpu_s": round(max(rates_cpu), 1),
                      "all_rounds": [round(rate, 1) for rate in rates]}))


if __name__ == "__main__":
    main()
