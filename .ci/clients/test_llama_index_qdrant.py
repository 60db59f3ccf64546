"""What does a user of llama-index-vector-stores-qdrant do? Stores nodes, queries, filters, reads and deletes.

Run: python test_llama_index_qdrant.py http://127.0.0.1:PORT
"""

import sys

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient


def node(number, text, vector, **metadata):
    related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"document-{number}")}
    id = f"00000000-0000-0000-0000-{number:012}"
    return TextNode(id_=id, text=text, embedding=vector, metadata=metadata, relationships=related)


def where(*filters, **kwargs):
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)
                                    for key, operator, value in filters], **kwargs)


def test_store(address):
    """a user of llama-index-vector-stores-qdrant stores nodes, queries, filters, reads and deletes"""
    client = QdrantClient(url=address, prefix="qdrant", prefer_grpc=False, timeout=60)
    store = QdrantVectorStore(collection_name="llama", client=client)
    nodes = [
        node(1, "apples", [1.0, 0.0, 0.0], kind="fruit", year=2020, tags=["red", "sweet"]),
        node(2, "pears", [0.9, 0.1, 0.0], kind="fruit", year=2021, tags=["green"]),
        node(3, "ships", [0.0, 0.0, 1.0], kind="sea", year=2022, tags=[]),
    ]
    assert store.add(nodes) == [one.node_id for one in nodes]
    print("ok: a user of llama-index adds nodes, and the collection is made")

    def texts(vector=(1.0, 0.0, 0.0), top=3, filters=None):
        query = VectorStoreQuery(query_embedding=list(vector), similarity_top_k=top, filters=filters)
        return [one.get_content() for one in store.query(query).nodes]

    assert texts(top=2) == ["apples", "pears"]
    operator = FilterOperator
    assert texts(filters=where(("kind", operator.EQ, "sea"))) == ["ships"]
    assert texts(filters=where(("kind", operator.NE, "sea"))) == ["apples", "pears"]
    assert texts(filters=where(("year", operator.GTE, 2021))) == ["pears", "ships"]
    assert texts(filters=where(("kind", operator.IN, ["sea", "land"]))) == ["ships"]
    assert texts(filters=where(("tags", operator.IN, ["green", "red"]))) == ["apples", "pears"]
    assert texts(filters=where(("tags", operator.IS_EMPTY, None))) == ["ships"]
    either = where(("year", operator.LT, 2021), ("kind", operator.EQ, "sea"), condition="or")
    assert texts(filters=either) == ["apples", "ships"]
    print("ok: a user of llama-index queries by vector, with filters of many kinds")

    assert [one.get_content() for one in store.get_nodes(node_ids=[nodes[1].node_id])] == ["pears"]
    assert len(store.get_nodes(filters=where(("kind", operator.EQ, "fruit")))) == 2
    store.delete("document-1")
    assert texts() == ["pears", "ships"]
    store.delete_nodes([nodes[2].node_id])
    assert texts() == ["pears"]
    store.clear()
    assert client.count("llama").count == 0 if client.collection_exists("llama") else True
    print("ok: a user of llama-index reads, deletes and clears nodes")


if __name__ == "__main__":
    test_store(sys.argv[1])
