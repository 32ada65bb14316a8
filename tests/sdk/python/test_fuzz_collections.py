"""Requests made from the API documents for collections that documents flow into: no answer is the server's fault, each is one
that the documents foresee, and no document is left behind. The same requests every time.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_fuzz import DEMO, HOSTED, Values, bodies, check

EXAMPLES = 60
WAIT_SECONDS = 120
# The hosted API's document, and this server's own.
DOCUMENTS = {"hosted": HOSTED, "own": httpx.get(f"{DEMO}/openapi.json").json()}
GROUPS = ("/collections/", "/documents/", "/queries/", "/status/")
ROUTES = [path for path, item in HOSTED["paths"].items() if path.startswith(GROUPS) and "post" in item]


def auto(data: bytes) -> dict[str, Any]:
    """A file as content."""
    return {"type": "auto", "base64_data": base64.b64encode(data).decode()}


CONTENTS: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": "otters swim in rivers"},
    "empty": {"type": "text", "text": ""},
    "pages": {"type": "text-pages", "pages": ["otters swim", "", "herons wait"]},
    "rows": {"type": "text-pages-unordered", "pages": ["otter", "heron"]},
    "table.csv": auto(b"name,food\notter,fish\n"),
    "page.html": auto(b"<p>otters swim</p>"),
    # These fail.
    "broken.pdf": auto(b"%PDF-1.7\nnothing"),
    "broken.docx": auto(b"PK\x03\x04"),
    # Takes a while.
    "long": {"type": "text", "text": "otters swim in rivers. " * 1_000},
}
# What fields may hold beside what their schema says, so that most requests find something.
KNOWN: dict[str, list[Any]] = {
    "path": list(CONTENTS),
    "k": [1, 2, 128, 129, 1024, 1025, 2048, 2049],
    "query": ["otter", "swim rivers", "", "o" * 4096, "o" * 4097],
    "limit": [1, 2, 1024, 1025],
    "page_index": [0, 1, 2],
    "path_gt": ["", "l", "z"],
    "path_prefix": ["", "p"],
    "reranker": [None, "demo"],
    "num_shards": [1, 8],
    "index_status": ["not_parsed", "not_indexed"],
    "content": list(CONTENTS.values()),
    "metadata": [{}, {"kind": "x", "list:tags": ["a", "b"]}],
    "filter": [{}, {"kind": "x"}, {"list:tags": {"$in": ["a"]}}, {"$or": [{"kind": {"$ne": "x"}}, {"kind": {"$gte": "a"}}]}],
}


def operation_of(document: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    """An operation with its answers in place."""
    operation = document["paths"][path][method]
    answers = document["components"].get("responses", {})
    responses = {
        status: answers[response["$ref"].rsplit("/", 1)[1]] if "$ref" in response else response
        for status, response in operation["responses"].items()
    }
    return operation | {"responses": responses}


@st.composite
def known(draw: st.DrawFn, allowed: st.SearchStrategy[dict[str, Any]], collection: str) -> dict[str, Any]:
    """A body that the document allows, with fields that mean something here."""
    body = draw(allowed)
    for field, values in {"collection_name": [collection], **KNOWN}.items():
        if field in body and draw(st.integers(0, 3)):
            body[field] = draw(st.sampled_from(values))
    return body


class Feeder:
    """Adds and replaces documents of a collection all the time, so that there are some in every status."""

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        """Makes the collection anew whenever a request has deleted it."""
        with httpx.Client(base_url=DEMO, timeout=60) as client:
            while not self.stop.is_set():
                for path, content in CONTENTS.items():
                    body = {"collection_name": self.collection, "path": path, "content": content, "overwrite": True, "metadata": {"kind": "x"}}
                    status = client.post("/documents/add-document", json=body).status_code
                    if status == 404:
                        status = client.post("/collections/add-collection", json={"collection_name": self.collection}).status_code
                    assert status in (200, 201, 409), status
                self.stop.wait(0.5)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


@pytest.fixture
def collection(request: pytest.FixtureRequest) -> Iterator[str]:
    """A collection of the test's own that is fed; afterwards nothing waits, and it holds what it says."""
    name = f"fuzz {request.node.name}"
    with httpx.Client(base_url=DEMO, timeout=60) as client:
        client.post("/collections/add-collection", json={"collection_name": name})
        with Feeder(name):
            yield name
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            status = client.post("/status/get-status").json()
            waiting = status["num_parsing_documents"] + status["num_indexing_documents"]
            assert status["num_documents"] == waiting + status["num_indexed_documents"] + status["num_failed_documents"]
            if waiting == 0:
                break
            assert time.monotonic() < deadline, f"documents are stuck: {status}"
            time.sleep(0.05)
        listed = client.post("/documents/get-document-info-list", json={"collection_name": name})
        if listed.status_code == 200:
            documents = listed.json()["documents"]
            assert {document["index_status"] for document in documents} <= {"indexed", "parsing_failed"}
            query = {"collection_name": name, "query": None, "k": 2048}
            found = client.post("/queries/top-documents", json=query).json()["results"]
            indexed = [document["path"] for document in documents if document["index_status"] == "indexed"]
            assert len(documents) == 1024 or [result["path"] for result in found] == indexed
            client.post("/collections/delete-collection", json={"collection_name": name})


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_routes(collection: str, document: str, path: str) -> None:
    """Requests that a document allows, and near misses of them."""
    operation = operation_of(DOCUMENTS[document], path, "post")
    allowed = Values(DOCUMENTS[document]).of(operation["requestBody"]["content"]["application/json"]["schema"])
    answered = set()

    with httpx.Client(base_url=f"{DEMO}/v1", timeout=60) as client:

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(bodies(known(allowed, collection)))
        def run(body: tuple[bytes, Any]) -> None:
            sent, valid = body
            response = client.post(path, content=sent)
            answered.add(response.status_code)
            assert response.status_code < 500, response.text
            check(DOCUMENTS[document], operation, response)
            # Of what a document allows only the meaning can be wrong.
            assert valid is None or response.status_code != 422, response.text

        run()
    assert {200, 201} & answered and 422 in answered, answered


@pytest.mark.parametrize("path", [path for path, item in HOSTED["paths"].items() if path.startswith(GROUPS) and "get" in item])
def test_downloads(collection: str, path: str) -> None:
    """Tokens that nobody has signed, and near misses of those that the server has."""
    operation = operation_of(HOSTED, path, "get")
    with httpx.Client(base_url=f"{DEMO}/v1", timeout=60) as client:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            info = client.post("/documents/get-document-info", json={"collection_name": collection, "path": "text"})
            if info.status_code == 200:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        token = info.json()["document"]["file_url"].split("token=")[1]
        changed = st.builds(lambda at, byte: token[:at] + byte + token[at + 1 :], st.integers(0, len(token)), st.sampled_from("aZ_-9=%é"))

        @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.one_of(changed.filter(lambda text: text != token), st.text(max_size=200), st.none()))
        def run(text: str | None) -> None:
            response = client.get(path, params={} if text is None else {"token": text})
            assert response.status_code == (422 if text is None else 404), response.text
            check(HOSTED, operation, response)

        run()
