"""Collections, documents and queries through the official Python SDK, unchanged: every method, on real data."""

import asyncio
import base64
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
import zeroentropy
from test_current import CountingClient
from zeroentropy import AsyncZeroEntropy, ZeroEntropy

PLANETS = {
    "venus.txt": "Venus is often called Earth's twin because of its similar size and proximity.",
    "mars.txt": "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "jupiter.txt": "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "saturn.txt": "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
}
QUERY = "Which planet is known as the Red Planet?"
WAIT_SECONDS = 60


@pytest.fixture
def client() -> Iterator[ZeroEntropy]:
    """Strict, so that a missing or misnamed response field raises; settings from the environment."""
    with ZeroEntropy(_strict_response_validation=True) as client:
        yield client


@pytest.fixture
def collection(client: ZeroEntropy) -> Iterator[str]:
    """An empty collection of the test's own."""
    name = f"test {uuid.uuid4()} é/.."
    assert client.collections.add(collection_name=name).message == "Success!"
    yield name
    try:
        client.collections.delete(collection_name=name)
    except zeroentropy.NotFoundError:
        pass


def text(content: str) -> dict[str, Any]:
    """Content of a text document."""
    return {"type": "text", "text": content}


def wait(client: ZeroEntropy, collection: str) -> Any:
    """Waits until nothing is left to parse or index, as users' scripts do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        status = client.status.get_status(collection_name=collection)
        parts = status.num_parsing_documents + status.num_indexing_documents
        assert status.num_documents == parts + status.num_indexed_documents + status.num_failed_documents
        if parts == 0:
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.02)


def add(client: ZeroEntropy, collection: str, documents: dict[str, str], **more: Any) -> None:
    """Adds text documents and waits until they are indexed."""
    for path, content in documents.items():
        client.documents.add(collection_name=collection, path=path, content=text(content), **more)
    wait(client, collection)


def test_documentation_example(client: ZeroEntropy, collection: str) -> None:
    """The product documentation's query finds the answer among documents that were added through the SDK."""
    add(client, collection, PLANETS)

    async def query() -> Any:
        async with AsyncZeroEntropy(_strict_response_validation=True) as client:
            return await client.queries.top_snippets(
                collection_name=collection,
                query=QUERY,
                k=5,
                reranker="zerank-1",
                precise_responses=False,
                include_document_metadata=False,
            )

    response = asyncio.run(query())
    assert [result.path for result in response.results][0] == "mars.txt"
    assert {result.path for result in response.results} == set(PLANETS)
    scores = [result.score for result in response.results]
    assert scores == sorted(scores, reverse=True) and 0 <= scores[-1] and scores[0] <= 1
    for result in response.results:
        assert result.content == PLANETS[result.path][result.start_index : result.end_index]
        assert result.page_span == [0, 1]
    assert [document.path for document in response.document_results] == [result.path for result in response.results]
    assert all(document.metadata is None for document in response.document_results)
    # The same scores as the model gives to the same pairs.
    reranked = client.models.rerank(model="zerank-1", query=QUERY, documents=[result.content for result in response.results])
    by_index = {result.index: result.relevance_score for result in reranked.results}
    assert [by_index[index] for index in range(len(scores))] == pytest.approx(scores, abs=1e-5)


def test_collections(client: ZeroEntropy) -> None:
    """Names are listed in order and are free again once deleted; a conflict costs one request."""
    names = [f"list {uuid.uuid4()} {suffix}" for suffix in ("b", "a", "é")]
    for shards, name in zip((1, 8, 64), names):
        client.collections.add(collection_name=name, num_shards=shards)
    listed = client.collections.get_list().collection_names
    assert listed == sorted(listed, key=str.encode) and set(names) <= set(listed)
    CountingClient().fail(zeroentropy.ConflictError, 409, lambda client: client.collections.add(collection_name=names[0]))
    for name in names:
        assert client.collections.delete(collection_name=name).message == "Success!"
    CountingClient().fail(zeroentropy.NotFoundError, 404, lambda client: client.collections.delete(collection_name=names[0]))
    assert not set(names) & set(client.collections.get_list().collection_names)
    client.collections.add(collection_name=names[0])
    assert client.status.get_status(collection_name=names[0]).num_documents == 0
    client.collections.delete(collection_name=names[0])


def test_document_life(client: ZeroEntropy, collection: str) -> None:
    """Add, conflict, overwrite, new metadata, delete: with what each tells afterwards."""
    before = datetime.now(timezone.utc)
    raw = client.documents.with_raw_response.add(
        collection_name=collection, path="a/../b", content=text("wombats dig"), metadata={"kind": "x", "list:tags": ["t", "u"]}
    )
    assert raw.status_code == 201
    CountingClient().fail(
        zeroentropy.ConflictError, 409, lambda client: client.documents.add(collection_name=collection, path="a/../b", content=text("no"))
    )
    wait(client, collection)
    first = client.documents.get_info(collection_name=collection, path="a/../b", include_content=True).document
    assert (first.content, first.index_status, first.num_pages, first.size) == ("wombats dig", "indexed", None, 11)
    assert first.metadata == {"kind": "x", "list:tags": ["t", "u"]}
    assert uuid.UUID(first.id).version == 7
    assert client.documents.get_info(collection_name=collection, path="a/../b").document.content is None

    raw = client.documents.with_raw_response.add(
        collection_name=collection, path="a/../b", content=text("wombats sleep"), overwrite=True
    )
    assert raw.status_code == 200
    wait(client, collection)
    second = client.documents.get_info(collection_name=collection, path="a/../b", include_content=True).document
    assert second.id != first.id and second.content == "wombats sleep" and second.metadata == {}
    assert httpx.get(first.file_url).status_code == 404
    assert httpx.get(second.file_url).text == "wombats sleep"

    client.documents.update(collection_name=collection, path="a/../b", metadata={"kind": "y"})
    status = wait(client, collection)
    assert (status.num_indexed_documents, status.num_indexed_bytes) == (1, 13)
    third = client.documents.get_info(collection_name=collection, path="a/../b").document
    assert (third.id, third.metadata) == (second.id, {"kind": "y"})
    found = client.queries.top_documents(collection_name=collection, query="wombats", k=1, filter={"kind": "y"}, include_metadata=True)
    assert [(result.path, result.metadata) for result in found.results] == [("a/../b", {"kind": "y"})]
    CountingClient().fail(
        zeroentropy.BadRequestError,
        400,
        lambda client: client.documents.update(collection_name=collection, path="a/../b", index_status="not_parsed"),
    )

    listed = client.documents.get_info_list(collection_name=collection).documents
    assert [(item.path, item.id) for item in listed] == [("a/../b", second.id)]
    assert before <= listed[0].created_at <= datetime.now(timezone.utc)
    assert client.documents.delete(collection_name=collection, path=["none", "a/../b"]).deleted_paths == ["a/../b"]
    CountingClient().fail(
        zeroentropy.NotFoundError, 404, lambda client: client.documents.delete(collection_name=collection, path="a/../b")
    )
    assert client.queries.top_snippets(collection_name=collection, query="wombats", k=1).results == []


def test_listing(client: ZeroEntropy, collection: str) -> None:
    """The SDK's pagination sees every document once, in the order of paths."""
    paths = [f"p/{number:03}" for number in range(40)] + ["q"]
    for path in paths:
        client.documents.add(collection_name=collection, path=path, content=text(path))
    seen = [item.path for item in client.documents.get_info_list(collection_name=collection, limit=7)]
    assert seen == paths
    seen = [item.path for item in client.documents.get_info_list(collection_name=collection, limit=7, path_prefix="p/01", path_gt="p/013")]
    assert seen == [f"p/{number:03}" for number in range(14, 20)]


def test_pages(client: ZeroEntropy, collection: str) -> None:
    """Pages are numbered from 0, are found by what they say, and snippets tell which they lie in."""
    pages = ["The otter swims.", "The heron waits.", "The badger digs."]
    for path, kind in (("ordered", "text-pages"), ("rows", "text-pages-unordered")):
        client.documents.add(collection_name=collection, path=path, content={"type": kind, "pages": pages})
    wait(client, collection)
    assert client.documents.get_info(collection_name=collection, path="rows").document.num_pages == 3
    page = client.documents.get_page_info(collection_name=collection, path="rows", page_index=1, include_content=True).page
    assert (page.page_index, page.content, page.image_url) == (1, "The heron waits.", None)
    CountingClient().fail(
        zeroentropy.NotFoundError,
        404,
        lambda client: client.documents.get_page_info(collection_name=collection, path="rows", page_index=3),
    )
    found = client.queries.top_pages(collection_name=collection, query="badger", k=2, include_content=True)
    assert [(result.path, result.page_index, result.content) for result in found.results] == [
        ("ordered", 2, "The badger digs."),
        ("rows", 2, "The badger digs."),
    ]
    assert {document.path for document in found.document_results} == {"ordered", "rows"}
    whole = "\n".join(pages)
    for result in client.queries.top_snippets(collection_name=collection, query="heron", k=10, precise_responses=True).results:
        assert whole[result.start_index : result.end_index] == result.content
        first, last = result.page_span
        assert all(part in "\n".join(pages[first:last]) for part in result.content.split("\n"))


def test_files(client: ZeroEntropy, collection: str) -> None:
    """`auto` finds text in files; what it cannot read ends as failed, is kept and can be tried again."""
    files = {
        "a.html": b"<html><head><title>t</title><script>hidden()</script></head><body><p>ferrets tunnel</p></body></html>",
        "b.csv": b"name,food\notter,fish\nwombat,grass\n",
        "c.md": b"# Title\n\nmarmots whistle\n",
        "d.bin": bytes(range(256)),
    }
    for path, data in files.items():
        content = {"type": "auto", "base64_data": base64.b64encode(data).decode()}
        client.documents.add(collection_name=collection, path=path, content=content)
    status = wait(client, collection)
    assert (status.num_indexed_documents, status.num_failed_documents) == (3, 1)
    for path, data in files.items():
        document = client.documents.get_info(collection_name=collection, path=path, include_content=True).document
        assert (document.size, httpx.get(document.file_url).content) == (len(data), data)
        assert (document.index_status == "parsing_failed") == (path == "d.bin") == (document.content is None)
    html = client.documents.get_info(collection_name=collection, path="a.html", include_content=True).document.content
    assert "ferrets tunnel" in html and "hidden" not in html
    found = client.queries.top_pages(collection_name=collection, query="wombat grass", k=1, include_content=True).results[0]
    assert (found.path, found.page_index) == ("b.csv", 1) and "name: wombat" in found.content
    assert client.documents.update(collection_name=collection, path="d.bin", index_status="not_parsed").message == "Success!"
    assert wait(client, collection).num_failed_documents == 1


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "abc"),
    ({"lang": "en"}, "a"),
    ({"lang": {"$ne": "en"}}, "bc"),
    ({"lang": {"$gte": "en", "$lt": "fr"}}, "a"),
    ({"lang": {"$in": ["fr", "de"]}}, "b"),
    ({"lang": {"$nin": ["fr"]}}, "ac"),
    ({"list:readers": {"$in": ["u1"]}}, "ab"),
    ({"list:readers": {"$nin": ["u2"]}}, "ac"),
    ({"readers": {"$in": ["u1"]}}, ""),
    ({"$or": [{"lang": "en"}, {"$and": [{"lang": "fr"}, {"list:readers": {"$in": ["u2"]}}]}]}, "ab"),
    ({"$or": []}, ""),
]


@pytest.mark.parametrize(("filter", "expected"), FILTERS, ids=[str(filter) for filter, _ in FILTERS])
def test_filters(client: ZeroEntropy, collection: str, filter: dict[str, Any], expected: str) -> None:
    """A filter keeps what the documentation says, with and without words, and without a query."""
    metadata: dict[str, dict[str, Any]] = {
        "a": {"lang": "en", "list:readers": ["u1"]},
        "b": {"lang": "fr", "list:readers": ["u1", "u2"]},
        "c": {},
    }
    for path, attributes in metadata.items():
        client.documents.add(collection_name=collection, path=path, content=text("otter"), metadata=attributes)
    wait(client, collection)
    for query in ("otter", "nothing", None):
        found = client.queries.top_documents(collection_name=collection, query=query, k=10, filter=filter)
        assert "".join(result.path for result in found.results) == expected, query
        assert all((result.score > 0) == (query == "otter") for result in found.results)


@pytest.mark.parametrize(
    ("kind", "status", "call"),
    [
        (zeroentropy.BadRequestError, 400, lambda client, name: client.collections.add(collection_name="")),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.collections.add(collection_name="x" * 1025)),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.collections.add(collection_name="x", num_shards=2)),
        (zeroentropy.NotFoundError, 404, lambda client, name: client.status.get_status(collection_name="none")),
        (zeroentropy.NotFoundError, 404, lambda client, name: client.documents.get_info(collection_name=name, path="none")),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.documents.get_info_list(collection_name=name, limit=1025)),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.documents.delete(collection_name=name, path=[])),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.documents.add(collection_name=name, path="a", content={"type": "auto", "base64_data": "%"})),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.documents.add(collection_name=name, path="a", content={"type": "text-pages", "pages": []})),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.documents.add(collection_name=name, path="a", content=text(""), metadata={"a": ["b"]})),
        (zeroentropy.UnprocessableEntityError, 422, lambda client, name: client.documents.add(collection_name=name, path="a", content={"type": "none"})),
        (zeroentropy.UnprocessableEntityError, 422, lambda client, name: client.documents.add(collection_name=name, path="a", content=text(""), metadata={"a": 1})),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.queries.top_snippets(collection_name=name, query="q", k=129)),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.queries.top_snippets(collection_name=name, query="q" * 4097, k=1)),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.queries.top_pages(collection_name=name, query="q", k=1025)),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.queries.top_documents(collection_name=name, query="é" * 2049, k=1)),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.queries.top_documents(collection_name=name, query="q", k=0)),
        (zeroentropy.BadRequestError, 400, lambda client, name: client.queries.top_documents(collection_name=name, query="q", k=1, filter={"a": {"$near": "b"}})),
        (zeroentropy.UnprocessableEntityError, 422, lambda client, name: client.queries.top_documents(collection_name=name, query="q", k=1, filter={"a": 1})),
        (zeroentropy.NotFoundError, 404, lambda client, name: client.queries.top_snippets(collection_name=name, query="q", k=1, reranker="none")),
    ],
)
def test_refusals(collection: str, kind: type[zeroentropy.APIStatusError], status: int, call: Any) -> None:
    """What breaks a rule is refused once, with the documented status."""
    CountingClient().fail(kind, status, lambda client: call(client, collection))


def test_top_documents_with_reranker(client: ZeroEntropy, collection: str) -> None:
    """Documents are ranked by the model; a null query lists by path and ignores it."""
    add(client, collection, PLANETS)
    ranked = client.queries.top_documents(collection_name=collection, query=QUERY, k=2, reranker="zerank-1").results
    assert ranked[0].path == "mars.txt" and ranked[0].score > ranked[1].score
    listed = client.queries.top_documents(collection_name=collection, query=None, k=10, reranker="zerank-1").results
    assert [(result.path, result.score) for result in listed] == [(path, 0.0) for path in sorted(PLANETS)]


def test_status_of_all(client: ZeroEntropy, collection: str) -> None:
    """Without a name all collections are counted together."""
    before = client.status.get_status().num_documents
    client.documents.add(collection_name=collection, path="a", content=text("a"))
    assert client.status.get_status().num_documents == before + 1
