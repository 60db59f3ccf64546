"""What users of Cohere's Python client do. Without a cross-encoder they are told so; QUIVER_TEST_RERANKER names one."""

import os
import unittest

import cohere

RERANKER = os.environ.get("QUIVER_TEST_RERANKER", "")
SETTINGS = f"rerankers = [{RERANKER!r}]\n" if RERANKER else ""
TEXTS = ["Income tax is due in May.", "The ferry crosses the river at noon.", "Bread is baked at dawn."]
QUERY = "When does the ferry leave?"


def test_not_there(address):
    """a reranker that is not configured is a NotFoundError that names those that are, in both versions"""
    for client in [cohere.Client, cohere.ClientV2]:
        try:
            client(api_key="none", base_url=address).rerank(model="rerank-v3.5", query=QUERY, documents=TEXTS)
        except cohere.errors.NotFoundError as error:
            assert "rerank-v3.5" in error.body["message"] and "Configured" in error.body["message"]
        else:
            raise AssertionError("another model was taken")


def test_not_possible(address):
    """what cannot be done is a BadRequestError that names it"""
    try:
        cohere.Client(api_key="none", base_url=address).rerank(
            model="any", query=QUERY, documents=[{"title": "a", "text": "b"}], rank_fields=["title"]
        )
    except cohere.errors.BadRequestError as error:
        assert "`title`" in error.body["message"]
    else:
        raise AssertionError("a field was ignored")


def test_ranked(address):
    """with a cross-encoder, rerank gives the best first, and documents where version 1 asks for them"""
    if not RERANKER:
        raise unittest.SkipTest("QUIVER_TEST_RERANKER names no model")
    second = cohere.ClientV2(api_key="none", base_url=address).rerank(
        model=RERANKER, query=QUERY, documents=TEXTS, top_n=2
    )
    scores = [result.relevance_score for result in second.results]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True) and second.meta.api_version.version == "2"
    first = cohere.Client(api_key="none", base_url=address).rerank(
        model=RERANKER, query=QUERY, documents=[{"text": text} for text in TEXTS], return_documents=True
    )
    assert [result.index for result in first.results][:2] == [result.index for result in second.results]
    assert all(result.document.text == TEXTS[result.index] for result in first.results)
