"""What does a user of qdrant-client do, and does QuiverDB answer as Qdrant's own local mode does?

Run: python test_qdrant.py http://127.0.0.1:PORT [SEED]

Points, filters and queries are random, from a seed that is printed; the oracle is `QdrantClient(":memory:")`.
"""

import random
import sys
import uuid
from urllib.parse import urlparse

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

WORDS = ["red", "green", "blue", "dark red", "Light-Green", "the blue one", ""]
TIMES = ["2024-01-01", "2024-01-01T12:00:00Z", "2024-03-05 10:00:00+02:00", "2025-07-07T07:07:07.5", "never"]


def connect(base):
    url = urlparse(base)
    return QdrantClient(
        url=f"{url.scheme}://{url.netloc}", prefix="qdrant", prefer_grpc=False, timeout=60, cloud_inference=True
    )


class Both:
    """The server and the oracle, asked the same."""

    def __init__(self, server):
        self.server, self.oracle = server, QdrantClient(":memory:")

    def do(self, name, *args, **kwargs):
        return getattr(self.server, name)(*args, **kwargs), getattr(self.oracle, name)(*args, **kwargs)


SEED = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2].isdigit() else random.SystemRandom().getrandbits(32)
print(f"seed {SEED}")


def begun(address, name):
    """Server and oracle, and what is random in this check."""
    return Both(connect(address)), random.Random(f"{SEED} {name}")


def scalar(rng):
    return rng.choice(
        [rng.randint(-2, 6), rng.randint(-2, 6), rng.choice([0.5, 1.0, 2.0, 3.25]), rng.choice(WORDS),
         rng.choice(WORDS), rng.choice(TIMES), True, False, None]
    )


def value(rng, depth=0):
    kind = rng.random()
    if kind < 0.6 or depth > 2:
        return scalar(rng)
    if kind < 0.8:
        return [value(rng, depth + 1) if rng.random() < 0.2 else scalar(rng) for _ in range(rng.randint(0, 3))]
    if kind < 0.9:
        return {key: value(rng, depth + 1) for key in rng.sample(["a", "b", "n"], rng.randint(0, 3))}
    return [{key: value(rng, depth + 2) for key in rng.sample(["a", "b", "n"], rng.randint(1, 3))}
            for _ in range(rng.randint(0, 3))]


def payload(rng):
    return {key: value(rng) for key in rng.sample(["a", "b", "n", "kind", "when"], rng.randint(0, 5))}


def key(rng):
    return rng.choice(["a", "b", "n", "kind", "when", "a", "n", "a.b", "a[].b", "n.a", "n[].a", "b[0]", "a[]", "a.b.n", "missing"])


def bounds(rng, make):
    names = rng.sample(["lt", "lte", "gt", "gte"], rng.randint(1, 2))
    return {name: make() for name in names}


def condition(rng, ids, depth):
    kind = rng.randrange(16)
    field = models.FieldCondition
    exact = lambda: rng.choice([rng.randint(-2, 6), rng.choice(WORDS), True, False])
    listed = lambda: rng.choice([[rng.randint(-2, 6) for _ in range(3)], rng.sample(WORDS, 2)])
    if kind in (0, 1):
        return field(key=key(rng), match=models.MatchValue(value=exact()))
    if kind == 2:
        return field(key=key(rng), match=models.MatchAny(any=listed()))
    if kind == 3:
        return field(key=key(rng), match=models.MatchExcept(**{"except": listed()}))
    if kind == 4:
        return field(key=key(rng), match=models.MatchText(text=rng.choice(["red", "light green", "BLUE one", "x"])))
    if kind == 5:
        text = rng.choice(["blue one", "dark", "one blue"])
        return field(key=key(rng), match=rng.choice([
            models.MatchTextAny(text_any=text), models.MatchPhrase(phrase=text),
            models.MatchPrefix(prefix=text), models.MatchSubstring(substring=text)]))
    if kind in (6, 7):
        return field(key=key(rng), range=models.Range(**bounds(rng, lambda: rng.choice([-1, 0, 1, 1.5, 2, 3, 3.25]))))
    if kind == 8:
        moment = lambda: rng.choice(["2024-01-01T00:00:00Z", "2024-03-05T08:00:00Z", "2025-07-07T07:07:07.5Z"])
        return field(key=key(rng), range=models.DatetimeRange(**bounds(rng, moment)))
    if kind == 9:
        return models.HasIdCondition(has_id=rng.sample(ids, 5))
    if kind == 10:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key(rng)))
    if kind == 11:
        return models.IsNullCondition(is_null=models.PayloadField(key=key(rng)))
    if kind == 12:
        return field(key=key(rng), values_count=models.ValuesCount(**bounds(rng, lambda: rng.randint(0, 3))))
    if kind == 13:
        return models.NestedCondition(nested=models.Nested(
            key=rng.choice(["a", "n", "n[]", "a.b"]), filter=some_filter(rng, ids, depth + 1)))
    if depth < 2:
        return some_filter(rng, ids, depth + 1)
    return field(key=key(rng), is_empty=rng.choice([True, False]))


def some_filter(rng, ids, depth=0):
    several = lambda: [condition(rng, ids, depth) for _ in range(rng.randint(1, 3))]
    parts = {}
    for name in rng.sample(["must", "should", "must_not"], rng.randint(1, 2)):
        parts[name] = several()
    if rng.random() < 0.2:
        parts["min_should"] = models.MinShould(conditions=several() + several(), min_count=rng.randint(1, 2))
    return models.Filter(**parts)


def all_points(client, name, **kwargs):
    points, offset = [], None
    for _ in range(1000):
        page, offset = client.scroll(name, offset=offset, limit=37, **kwargs)
        points += page
        if offset is None:
            return points
    raise AssertionError("scrolling does not end")


def by_id(points):
    return {str(point.id): (point.payload, point.vector) for point in points}


def same_points(both, name):
    mine, theirs = (by_id(all_points(client, name, with_payload=True, with_vectors=True))
                    for client in (both.server, both.oracle))
    assert mine.keys() == theirs.keys(), (len(mine), len(theirs))
    for point, (body, vector) in mine.items():
        assert (body or {}) == (theirs[point][0] or {}), (point, body, theirs[point][0])
        close(vector, theirs[point][1])


def close(mine, theirs):
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        for name in theirs:
            close(mine[name], theirs[name])
    else:
        assert np.allclose(mine, theirs, atol=1e-5), (mine, theirs)


def same_ranking(mine, theirs, context):
    assert len(mine) == len(theirs), (context, len(mine), len(theirs))
    assert np.allclose([one.score for one in mine], [one.score for one in theirs], atol=1e-4), (context, mine, theirs)
    # Points of the same score may change places, and those of the last score may be others.
    edge = theirs[-1].score if theirs else 0
    inner = lambda points: {str(one.id) for one in points if abs(one.score - edge) > 1e-4}
    assert inner(mine) == inner(theirs), (context, inner(mine) ^ inner(theirs))


def refused(status, call):
    try:
        call()
    except UnexpectedResponse as error:
        assert error.status_code == status, error
        assert b'"status":{"error":' in error.content, error.content
        return error.content.decode()
    raise AssertionError(f"expected {status}")


def filled(both, rng, name, count, distance):
    vectors = models.VectorParams(size=8, distance=distance)
    both.do("create_collection", name, vectors_config=vectors)
    ids = [number if number % 2 else str(uuid.UUID(int=rng.getrandbits(128))) for number in range(1, count + 1)]
    points = [models.PointStruct(id=one, vector=[rng.gauss(0, 1) for _ in range(8)], payload=payload(rng)) for one in ids]
    for start in range(0, count, 50):
        both.do("upsert", name, points=points[start:start + 50], wait=True)
    return ids


def test_collections(address):
    """a user of qdrant-client makes collections, looks whether they are there, gives them aliases, and drops them"""
    both, rng = begun(address, "collections")
    client = both.server
    assert not client.collection_exists("made")
    assert client.create_collection("made", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    assert client.collection_exists("made")
    info = client.get_collection("made")
    assert (info.config.params.vectors.size, info.config.params.vectors.distance) == (4, models.Distance.DOT)
    assert (info.points_count, info.status) == (0, models.CollectionStatus.GREEN)
    assert "made" in [one.name for one in client.get_collections().collections]
    again = lambda: client.create_collection("made", vectors_config=models.VectorParams(size=4, distance="Dot"))
    assert "already exists" in refused(409, again)
    assert client.update_collection("made", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1))
    create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="made", alias_name="other"))
    assert client.update_collection_aliases([create])
    assert [one.alias_name for one in client.get_collection_aliases("made").aliases] == ["other"]
    assert [one.collection_name for one in client.get_aliases().aliases] == ["made"]
    assert client.count("other").count == 0
    rename = models.RenameAliasOperation(rename_alias=models.RenameAlias(old_alias_name="other", new_alias_name="third"))
    assert client.update_collection_aliases([rename])
    assert client.collection_exists("third") and not client.collection_exists("other")
    delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="third"))
    assert client.update_collection_aliases([delete])
    assert client.list_snapshots("made") == []
    client.create_payload_index("made", "kind", field_schema=models.PayloadSchemaType.KEYWORD)
    client.delete_payload_index("made", "kind")
    assert client.delete_collection("made")
    assert not client.delete_collection("made")
    assert "doesn't exist" in refused(404, lambda: client.get_collection("made"))


def test_what_is_not_supported(address):
    """a user of qdrant-client is told by name what is not supported"""
    both, rng = begun(address, "what_is_not_supported")
    client = both.server
    make = lambda **kwargs: client.create_collection("never", **kwargs)
    dense = models.VectorParams(size=4, distance=models.Distance.COSINE)
    assert "Manhattan" in refused(400, lambda: make(vectors_config=models.VectorParams(size=4, distance="Manhattan")))
    sparse = {"words": models.SparseVectorParams()}
    assert "sparse_vectors" in refused(400, lambda: make(vectors_config=dense, sparse_vectors_config=sparse))
    many = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    multi = models.VectorParams(size=4, distance="Cosine", multivector_config=many)
    assert "multivector_config" in refused(400, lambda: make(vectors_config=multi))
    assert not client.collection_exists("never")
    name = "refusing"
    client.create_collection(name, vectors_config=dense)
    point = lambda id, vector: client.upsert(name, points=[models.PointStruct(id=id, vector=vector)])
    assert "not a valid point ID" in refused(400, lambda: point("no-uuid", [1, 0, 0, 0]))
    assert "expected dim: 4, got 3" in refused(400, lambda: point(1, [1, 0, 0]))
    geo = models.FieldCondition(key="place", geo_radius=models.GeoRadius(center=models.GeoPoint(lon=1, lat=1), radius=5))
    assert "geo_radius" in refused(400, lambda: client.count(name, count_filter=models.Filter(must=[geo])))
    assert "order_by" in refused(400, lambda: client.scroll(name, order_by="year"))
    assert "sample" in refused(400, lambda: client.query_points(name, query=models.SampleQuery(sample="random")))
    assert "No point with id 7" in refused(404, lambda: client.query_points(name, query=7))
    assert "not configured" in refused(400, lambda: client.query_points(name, query=models.Document(text="x", model="nobody")))
    client.delete_collection(name)


def test_filters(address):
    """a user of qdrant-client filters of every kind, counting, scrolling and querying, as Qdrant itself would"""
    both, rng = begun(address, "filters")
    ids = filled(both, rng, "filtered", 300, models.Distance.COSINE)
    same_points(both, "filtered")
    matched = 0
    for round in range(400):
        chosen = some_filter(rng, ids)
        mine, theirs = both.do("count", "filtered", count_filter=chosen)
        context = (round, chosen.model_dump_json(exclude_none=True, by_alias=True), mine.count, theirs.count)
        if mine.count != theirs.count:
            lists = [{str(one.id): one.payload for one in all_points(c, "filtered", scroll_filter=chosen)}
                     for c in (both.server, both.oracle)]
            odd = lists[0].keys() ^ lists[1].keys()
            everything = {str(one.id): one.payload for one in all_points(both.oracle, "filtered")}
            raise AssertionError((context, [(one, everything[one]) for one in list(odd)[:3]]))
        matched += 0 < mine.count < len(ids)
        if round % 4 == 0:
            mine, theirs = ({str(one.id) for one in all_points(client, "filtered", scroll_filter=chosen)}
                            for client in (both.server, both.oracle))
            assert mine == theirs, (context, mine ^ theirs)
            vector = [rng.gauss(0, 1) for _ in range(8)]
            mine, theirs = both.do("query_points", "filtered", query=vector, query_filter=chosen, limit=20)
            same_ranking(mine.points, theirs.points, context)
    assert matched > 100, matched


def test_queries(address):
    """a user of qdrant-client queries by vector, by point, by examples, with thresholds and pages, in every metric"""
    both, rng = begun(address, "queries")
    for distance in (models.Distance.COSINE, models.Distance.DOT, models.Distance.EUCLID):
        name = f"near-{distance.value}"
        ids = filled(both, rng, name, 120, distance)
        for _ in range(10):
            vector = [rng.gauss(0, 1) for _ in range(8)]
            ask = lambda **kwargs: [one.points for one in both.do("query_points", name, **kwargs)]
            same_ranking(*ask(query=vector, limit=7), "vector")
            same_ranking(*ask(query=vector, limit=5, offset=3), "offset")
            same_ranking(*ask(query=rng.choice(ids), limit=5), "point")
            scores = [one.score for one in ask(query=vector, limit=9)[1]]
            floor = (scores[4] + scores[5]) / 2
            same_ranking(*ask(query=vector, limit=50, score_threshold=floor), "threshold")
            liked = models.RecommendInput(positive=rng.sample(ids, 2), negative=rng.sample(ids, 1))
            same_ranking(*ask(query=models.RecommendQuery(recommend=liked), limit=5), "recommend")
            various = models.NearestQuery(nearest=vector, mmr=models.Mmr(diversity=0.6, candidates_limit=25))
            mine, theirs = ask(query=various, limit=6)
            assert [one.id for one in mine] == [one.id for one in theirs], "variety"
            exact = models.SearchParams(exact=True, hnsw_ef=128)
            mine, theirs = ask(query=vector, limit=3, with_payload=True, with_vectors=True, search_params=exact)
            for one, other in zip(mine, theirs):
                assert (one.id, one.payload or {}) == (other.id, other.payload or {})
                close(one.vector, other.vector)
        requests = [models.QueryRequest(query=vector, limit=2), models.QueryRequest(query=ids[0], limit=3)]
        for mine, theirs in zip(*both.do("query_batch_points", name, requests=requests)):
            same_ranking(mine.points, theirs.points, "batch")


def test_payload_selectors(address):
    """a user of qdrant-client asks for parts of the payload"""
    both, rng = begun(address, "payload_selectors")
    filled(both, rng, "selected", 60, models.Distance.COSINE)
    for selector in (["a", "n[].a"], models.PayloadSelectorInclude(include=["a.b", "kind"]),
                     models.PayloadSelectorExclude(exclude=["a", "n[].a", "b[]"]), False, True):
        mine, theirs = ({str(one.id): one.payload or {} for one in all_points(client, "selected", with_payload=selector)}
                        for client in (both.server, both.oracle))
        assert mine == theirs, selector


def test_fused(address):
    """a user of qdrant-client fuses queries of named vectors"""
    both, rng = begun(address, "fused")
    params = lambda size, distance: models.VectorParams(size=size, distance=distance)
    vectors = {"image": params(4, models.Distance.COSINE), "text": params(6, models.Distance.DOT)}
    both.do("create_collection", "named", vectors_config=vectors)
    random_vector = lambda size: [rng.gauss(0, 1) for _ in range(size)]
    points = [models.PointStruct(id=number, vector={"image": random_vector(4), "text": random_vector(6)},
                                 payload={"number": number}) for number in range(60)]
    both.do("upsert", "named", points=points)
    info = both.server.get_collection("named").config.params.vectors
    assert {name: one.size for name, one in info.items()} == {"image": 4, "text": 6}
    same_points(both, "named")
    for _ in range(10):
        image, text = random_vector(4), random_vector(6)
        same_ranking(*(one.points for one in both.do("query_points", "named", query=image, using="image")), "using")
        prefetch = [models.Prefetch(query=image, using="image", limit=12), models.Prefetch(query=text, using="text", limit=9)]
        for query in (models.FusionQuery(fusion=models.Fusion.RRF), models.FusionQuery(fusion=models.Fusion.DBSF)):
            asked = both.do("query_points", "named", prefetch=prefetch, query=query, limit=30)
            same_ranking(*(one.points for one in asked), query)
        asked = both.do("query_points", "named", prefetch=prefetch[0], query=text, using="text", limit=5)
        same_ranking(*(one.points for one in asked), "rescoring")
    missing = models.PointStruct(id=99, vector={"image": random_vector(4)})
    assert "no vector `text`" in refused(400, lambda: both.server.upsert("named", points=[missing]))
    assert "nothing" in refused(400, lambda: both.server.query_points("named", query=image, using="nothing"))
    both.do("update_vectors", "named", points=[models.PointVectors(id=3, vector={"image": random_vector(4)})])
    same_points(both, "named")


def test_groups(address):
    """a user of qdrant-client groups hits by a field"""
    both, rng = begun(address, "groups")
    both.do("create_collection", "grouped", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    points = [models.PointStruct(id=number, vector=[rng.gauss(0, 1) for _ in range(4)],
                                 payload={"author": rng.choice(["ann", "bob", "cem", 7]), "tags": rng.sample(["x", "y", "z"], 2)})
              for number in range(40)]
    both.do("upsert", "grouped", points=points)
    for _ in range(10):
        for field in ("author", "tags"):
            vector = [rng.gauss(0, 1) for _ in range(4)]
            mine, theirs = both.do("query_points_groups", "grouped", group_by=field, query=vector, limit=3, group_size=2)
            shown = lambda answer: [(group.id, [hit.id for hit in group.hits]) for group in answer.groups]
            assert shown(mine) == shown(theirs), (shown(mine), shown(theirs))
    mine, theirs = both.do("facet", "grouped", key="author")
    assert {hit.value: hit.count for hit in mine.hits} == {hit.value: hit.count for hit in theirs.hits}


def test_edits(address):
    """a user of qdrant-client edits payloads and vectors, deletes points, and does many things in one batch"""
    both, rng = begun(address, "edits")
    ids = filled(both, rng, "edited", 80, models.Distance.DOT)
    choose = lambda: rng.choice([rng.sample(ids, 4), some_filter(rng, ids)])
    for _ in range(12):
        both.do("set_payload", "edited", payload={"kind": rng.choice(WORDS), "new": {"x": 1}}, points=choose())
        both.do("set_payload", "edited", payload={"deep": rng.randint(0, 9)}, points=rng.sample(ids, 3), key="new")
        both.do("overwrite_payload", "edited", payload=payload(rng), points=rng.sample(ids, 3))
        both.do("delete_payload", "edited", keys=["b", "n", "new.x"], points=choose())
        both.do("clear_payload", "edited", points_selector=rng.sample(ids, 1))
        vector = [rng.gauss(0, 1) for _ in range(8)]
        both.do("update_vectors", "edited", points=[models.PointVectors(id=rng.choice(ids), vector=vector)])
        same_points(both, "edited")
    one, other, third = rng.sample(ids, 3)
    operations = [
        models.UpsertOperation(upsert=models.PointsList(points=[models.PointStruct(id=one, vector=vector, payload={"v": 1})])),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"w": 2}, points=[one, other])),
        models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["v"], points=[one])),
        models.DeleteOperation(delete=models.PointIdsList(points=[third])),
    ]
    both.do("batch_update_points", "edited", update_operations=operations)
    same_points(both, "edited")
    batch = models.Batch(ids=[900, 901], vectors=[vector, vector], payloads=[{"c": 1}, {}])
    both.do("upsert", "edited", points=batch)
    same_points(both, "edited")
    both.do("delete", "edited", points_selector=some_filter(rng, ids))
    same_points(both, "edited")
    assert "No point with id 12345678" in refused(404, lambda: both.server.set_payload("edited", payload={}, points=[12345678]))
    large = 2**64 - 1
    both.server.upsert("edited", points=[models.PointStruct(id=large, vector=vector)])
    assert both.server.retrieve("edited", [large])[0].id == large
    written = "0F8FAD5B-D9CB-469F-A165-70867728950E"
    both.server.upsert("edited", points=[models.PointStruct(id=written, vector=vector)])
    assert both.server.retrieve("edited", [written])[0].id == written.lower()


def test_documents(address):
    """a user of qdrant-client gives texts with the name of a model, which the server embeds"""
    both, rng = begun(address, "documents")
    client, text = both.server, lambda words: models.Document(text=words, model="builtin")
    client.create_collection("texts", vectors_config=models.VectorParams(size=256, distance=models.Distance.COSINE))
    notes = {1: "Apples and pears grow in the orchard.", 2: "The server listens on the loopback alone.", 3: "A ship crosses the ocean."}
    client.upsert("texts", points=[models.PointStruct(id=one, vector=text(words), payload={"n": one}) for one, words in notes.items()])
    for question, expected in (("fruit trees", 1), ("network port", 2), ("sailing the sea", 3)):
        assert client.query_points("texts", query=text(question), limit=1).points[0].id == expected, question
    point = client.retrieve("texts", [1], with_vectors=True)[0]
    assert point.payload == {"n": 1} and abs(np.linalg.norm(point.vector) - 1) < 1e-5


def main():
    for name, check in list(globals().items()):
        if name.startswith("test_"):
            check(sys.argv[1])
            print(f"ok: {check.__doc__}")


if __name__ == "__main__":
    main()
