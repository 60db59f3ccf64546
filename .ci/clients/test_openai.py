"""What users of OpenAI's Python client do with embeddings."""

import asyncio
import math

import openai

TEXTS = ["The ferry crosses the river at noon.", "Income tax is due in May.", "Boats are moored at the quay."]


def client(address):
    """As a user makes it, with no other address."""
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def refused(kind, call):
    """The error that the call must raise."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def test_texts(address):
    """embeddings.create gives a vector for each text, and a question's is nearest to its answer's"""
    made = client(address).embeddings.create(model="builtin", input=TEXTS)
    assert [item.index for item in made.data] == [0, 1, 2]
    assert made.model == "builtin" and made.usage.prompt_tokens == made.usage.total_tokens > 15
    asked = client(address).embeddings.create(
        model="builtin", input="when does the ferry leave?", extra_body={"input_type": "query"}
    )
    scores = [cosine(asked.data[0].embedding, item.embedding) for item in made.data]
    assert scores[0] == max(scores) and scores[1] == min(scores), scores


def test_base64(address):
    """the client's own base64, which it asks for unless told, holds the numbers that `float` writes"""
    by_default = client(address).embeddings.create(model="builtin", input=TEXTS)
    as_floats = client(address).embeddings.create(model="builtin", input=TEXTS, encoding_format="float")
    for a, b in zip(by_default.data, as_floats.data):
        assert len(a.embedding) == len(b.embedding) > 100
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-7
    raw = client(address).embeddings.with_raw_response.create(model="builtin", input="a", encoding_format="base64")
    assert isinstance(raw.http_response.json()["data"][0]["embedding"], str)


def test_dimensions(address):
    """`dimensions` shortens vectors, and more than the model has is a BadRequestError about `dimensions`"""
    made = client(address).embeddings.create(model="builtin", input=TEXTS[0], dimensions=64)
    vector = made.data[0].embedding
    assert len(vector) == 64 and abs(sum(x * x for x in vector) - 1) < 1e-4
    error = refused(
        openai.BadRequestError,
        lambda: client(address).embeddings.create(model="builtin", input="a", dimensions=100_000),
    )
    assert error.param == "dimensions" and "100000" in error.message


def test_tokens(address):
    """token ids are a BadRequestError that says which switch sends texts"""
    error = refused(
        openai.BadRequestError, lambda: client(address).embeddings.create(model="builtin", input=[[1820, 15140]])
    )
    assert error.param == "input" and "check_embedding_ctx_length=False" in error.message


def test_models(address):
    """models.list and models.retrieve show what may be named; another name is a NotFoundError that names them"""
    listed = client(address).models.list()
    assert [(model.id, model.owned_by) for model in listed.data] == [("builtin", "quiverdb")]
    assert client(address).models.retrieve("builtin").object == "model"
    error = refused(
        openai.NotFoundError, lambda: client(address).embeddings.create(model="text-embedding-3-small", input="a")
    )
    assert error.code == "model_not_found" and "builtin" in error.message
    error = refused(openai.NotFoundError, lambda: client(address).models.retrieve("owner/name"))
    assert "owner/name" in error.message and error.request_id


def test_nothing_to_embed(address):
    """an empty text and an empty list are BadRequestErrors, as OpenAI's are"""
    for nothing in ["", [], ["a", ""]]:
        error = refused(
            openai.BadRequestError, lambda: client(address).embeddings.create(model="builtin", input=nothing)
        )
        assert error.type == "invalid_request_error" and error.param == "input", error.message


def test_async(address):
    """AsyncOpenAI embeds many batches at once, each answered with its own vectors"""

    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as many:
            texts = [[f"boat number {number}", f"tax number {number}"] for number in range(32)]
            return await asyncio.gather(*(many.embeddings.create(model="builtin", input=two) for two in texts))

    answers = asyncio.run(all_at_once())
    for number in [0, 13, 31]:
        alone = client(address).embeddings.create(model="builtin", input=f"boat number {number}").data[0].embedding
        assert cosine(alone, answers[number].data[0].embedding) > 0.999999
