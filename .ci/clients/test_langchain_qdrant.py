"""What does a user of langchain-qdrant do? Stores texts with their vectors, searches, filters and deletes.

Run: python test_langchain_qdrant.py http://127.0.0.1:PORT
"""

import hashlib
import sys
import uuid

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models


class Words(Embeddings):
    """Texts with the same words are near: no model, no network."""

    def embed_query(self, text):
        vector = [0.0] * 64
        for word in text.lower().split():
            vector[hashlib.sha256(word.encode()).digest()[0] % 64] += 1.0
        return vector

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


def test_store(address):
    """a user of langchain-qdrant stores texts with their vectors, searches, filters, deletes and opens again"""
    client = QdrantClient(url=address, prefix="qdrant", prefer_grpc=False, timeout=60)
    client.create_collection("langchain", vectors_config=models.VectorParams(size=64, distance=models.Distance.COSINE))
    store = QdrantVectorStore(client=client, collection_name="langchain", embedding=Words())
    documents = [
        Document(page_content="apples and pears grow here", metadata={"kind": "fruit", "year": 2020}),
        Document(page_content="a ship crosses the ocean", metadata={"kind": "sea", "year": 2021}),
        Document(page_content="the ocean is wide", metadata={"kind": "sea", "year": 2022}),
    ]
    ids = store.add_documents(documents)
    assert len(ids) == 3 and client.count("langchain").count == 3
    print("ok: a user of langchain-qdrant adds documents")

    (found, score), = store.similarity_search_with_score("a ship crosses the ocean", k=1)
    assert found.page_content == documents[1].page_content and abs(score - 1) < 1e-5, (found, score)
    assert found.metadata["kind"] == "sea" and uuid.UUID(found.metadata["_id"]) == uuid.UUID(ids[1])
    recent = models.Filter(must=[models.FieldCondition(key="metadata.year", range=models.Range(gt=2021))])
    found, = store.similarity_search("ocean", k=5, filter=recent)
    assert found.metadata["year"] == 2022
    assert [one.page_content for one in store.get_by_ids([ids[0]])] == [documents[0].page_content]
    print("ok: a user of langchain-qdrant searches by text, filters, and reads by id")

    various = store.max_marginal_relevance_search("ocean", k=2, fetch_k=3)
    assert len(various) == 2
    assert [one.page_content for one in store.as_retriever(search_kwargs={"k": 1}).invoke("pears")] == [documents[0].page_content]
    print("ok: a user of langchain-qdrant searches for variety and through a retriever")

    assert store.delete([ids[1]]) and client.count("langchain").count == 2
    again = QdrantVectorStore.from_existing_collection(
        collection_name="langchain", embedding=Words(), url=address, prefix="qdrant", prefer_grpc=False)
    assert again.similarity_search("ocean", k=1)[0].page_content == documents[2].page_content
    texts = QdrantVectorStore.from_texts(
        ["one", "two"], Words(), collection_name="langchain-texts", url=address, prefix="qdrant", prefer_grpc=False)
    assert texts.similarity_search("two", k=1)[0].page_content == "two"
    print("ok: a user of langchain-qdrant deletes, opens again, and makes a store of texts")


if __name__ == "__main__":
    test_store(sys.argv[1])
