"""What users of Hugging Face's InferenceClient do with a server of text-embeddings-inference."""

import json
import urllib.error
import urllib.request

import numpy
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

TEXTS = ["The ferry crosses the river at noon.", "Income tax is due in May."]


def test_feature_extraction(address):
    """feature_extraction gives a row of unit length for each text"""
    client = InferenceClient(model=f"{address}/embed")
    rows = client.feature_extraction(TEXTS, normalize=True, truncate=True)
    assert rows.shape[0] == 2 and rows.dtype == numpy.float32
    assert numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert numpy.array_equal(client.feature_extraction(TEXTS[0])[0], rows[0])


def test_prompt_and_dimensions(address):
    """prompt_name and dimensions are honoured, and a prompt that is not there is an error that names those that are"""
    client = InferenceClient(model=f"{address}/embed")
    assert client.feature_extraction("a boat", prompt_name="query", dimensions=16).shape == (1, 16)
    try:
        client.feature_extraction("a boat", prompt_name="sts")
    except HfHubHTTPError as error:
        told = error.response.json()
        assert told["error_type"] == "Validation" and "`query`" in told["error"] and "`sts`" in told["error"]
    else:
        raise AssertionError("a prompt was ignored")


def test_sentence_similarity(address):
    """sentence_similarity gives a cosine for each sentence, the likest the largest"""
    client = InferenceClient(model=f"{address}/similarity")
    scores = client.sentence_similarity("When does the ferry leave?", other_sentences=TEXTS)
    assert len(scores) == 2 and 1 >= scores[0] > scores[1]


def test_info_and_tokens(address):
    """GET /info, /health and POST /tokenize answer as scripts around such servers expect"""
    with urllib.request.urlopen(f"{address}/info") as answer:
        info = json.load(answer)
    assert info["model_id"] == "builtin" and info["max_input_length"] > 0 and "embedding" in info["model_type"]
    with urllib.request.urlopen(f"{address}/health") as answer:
        assert (answer.status, answer.read()) == (200, b"")
    body = json.dumps({"inputs": TEXTS}).encode()
    request = urllib.request.Request(f"{address}/tokenize", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        tokens = json.load(answer)
    for text, of_text in zip(TEXTS, tokens):
        assert all(text[token["start"] : token["stop"]] == token["text"] for token in of_text) and len(of_text) > 5


def test_not_there(address):
    """vectors of single tokens and reranking without a model are refused with error_type Backend"""
    for path, status, body in [("embed_all", 424, {"inputs": "a"}), ("rerank", 404, {"query": "a", "texts": ["b"]})]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{address}/{path}", data, {"content-type": "application/json"})
        try:
            urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            assert error.code == status and json.load(error)["error_type"] == "Backend"
        else:
            raise AssertionError(f"{path} answered")
