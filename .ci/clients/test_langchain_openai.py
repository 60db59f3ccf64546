"""What users of LangChain's OpenAIEmbeddings do."""

import openai
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings


def embeddings(address, **more):
    """As its documentation says for other servers."""
    more = {"check_embedding_ctx_length": False, "max_retries": 0} | more
    return OpenAIEmbeddings(model="builtin", base_url=f"{address}/v1", api_key="none", **more)


def test_documents_and_query(address):
    """embed_documents and embed_query give vectors of one length, batch by batch"""
    made = embeddings(address, chunk_size=2).embed_documents([f"boat number {number}" for number in range(5)])
    asked = embeddings(address).embed_query("boat number 3")
    assert len(made) == 5 and {len(vector) for vector in made} == {len(asked)}
    scores = [sum(x * y for x, y in zip(vector, asked)) for vector in made]
    assert scores.index(max(scores)) == 3, scores


def test_store(address):
    """a vector store over it finds the passage that answers"""
    store = InMemoryVectorStore(embeddings(address))
    texts = ["The ferry crosses the river at noon.", "Income tax is due in May.", "Bread is baked at dawn."]
    store.add_documents([Document(page_content=text) for text in texts])
    assert store.similarity_search("when must I pay taxes?", k=1)[0].page_content == texts[1]


def test_dimensions(address):
    """`dimensions` shortens vectors"""
    assert len(embeddings(address, dimensions=32).embed_query("a boat")) == 32
