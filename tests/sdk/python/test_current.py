"""The official Python SDK, 0.1.0a11, unchanged: `model` is required, the response has six fields."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import zeroentropy
from zeroentropy import AsyncZeroEntropy, ZeroEntropy
from zeroentropy.types import ModelRerankResponse

MODEL = "zerank-1-small"
QUERY = "What is 2+2?"
DOCUMENTS = ["4", "The answer is definitely 1 million."]
PLANET_QUERY = "Which planet is known as the Red Planet?"
PLANETS = [
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
]

Rerank = Callable[..., ModelRerankResponse]


def rerank_async(**arguments: Any) -> ModelRerankResponse:
    """Calls the asynchronous client as the product documentation does."""

    async def call() -> ModelRerankResponse:
        async with AsyncZeroEntropy(_strict_response_validation=True) as client:
            return await client.models.rerank(**arguments)

    return asyncio.run(call())


def rerank_sync(**arguments: Any) -> ModelRerankResponse:
    """Calls the synchronous client; strict, so that a missing or misnamed response field raises."""
    with ZeroEntropy(_strict_response_validation=True) as client:
        return client.models.rerank(**arguments)


@pytest.fixture(params=[rerank_async, rerank_sync], ids=["async", "sync"])
def rerank(request: pytest.FixtureRequest) -> Rerank:
    """Both clients, with their settings from the environment."""
    return request.param


class CountingClient:
    """A client that keeps the answers it gets, those before a retry included."""

    def __init__(self, max_retries: int = 2) -> None:
        self.responses: list[httpx.Response] = []
        transport = httpx.Client(event_hooks={"response": [self.responses.append]}, timeout=60)
        self.client = ZeroEntropy(http_client=transport, max_retries=max_retries)

    def fail(self, kind: type[zeroentropy.APIStatusError], status: int, call: Callable[[ZeroEntropy], Any]) -> Any:
        """Runs a call that must fail at the first attempt, and returns the error's body."""
        with pytest.raises(kind) as raised:
            call(self.client)
        assert raised.value.status_code == status
        assert len(self.responses) == 1, "the SDK retried what cannot succeed"
        assert uuid.UUID(raised.value.response.headers["x-request-id"])
        body = raised.value.body
        assert isinstance(body, dict) and isinstance(body["message"], str) and body["message"]
        return body


def order(response: ModelRerankResponse) -> list[int]:
    """Returns the documents' indices, best first."""
    return [result.index for result in response.results]


def test_documentation_example(rerank: Rerank) -> None:
    """The product documentation's example gives the answer first and all six fields."""
    response = rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    assert order(response) == [0, 1]
    first, second = (result.relevance_score for result in response.results)
    assert 1 >= first > second >= 0
    assert response.total_bytes == 360
    assert response.total_tokens > 0
    assert response.actual_latency_mode == "fast"
    assert 0 < response.inference_latency <= response.e2e_latency < 60


def test_planets(rerank: Rerank) -> None:
    """The published example puts Mars first, and its bytes are counted as published."""
    response = rerank(model=MODEL, query=PLANET_QUERY, documents=PLANETS)
    assert order(response)[0] == 1
    assert sorted(order(response)) == [0, 1, 2, 3]
    assert response.total_bytes == 1061


def test_top_n_is_a_prefix(rerank: Rerank) -> None:
    """`top_n` shortens the results and changes neither scores nor totals."""
    whole = rerank(model=MODEL, query=PLANET_QUERY, documents=PLANETS)
    for top_n in (1, 3, 4, 9):
        part = rerank(model=MODEL, query=PLANET_QUERY, documents=PLANETS, top_n=top_n)
        assert order(part) == order(whole)[:top_n]
        for result, expected in zip(part.results, whole.results):
            assert result.relevance_score == pytest.approx(expected.relevance_score, abs=1e-6)
        assert (part.total_bytes, part.total_tokens) == (whole.total_bytes, whole.total_tokens)


def test_latency(rerank: Rerank) -> None:
    """An explicit latency is the one that is used."""
    for latency in ("fast", "slow"):
        response = rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, latency=latency)
        assert response.actual_latency_mode == latency


def test_nulls_mean_not_given(rerank: Rerank) -> None:
    """Callers pass None through; it means the default."""
    response = rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=None, latency=None)
    assert len(response.results) == len(DOCUMENTS)


def test_no_documents(rerank: Rerank) -> None:
    """An empty list is a request without results."""
    response = rerank(model=MODEL, query=QUERY, documents=[])
    assert (response.results, response.total_bytes, response.total_tokens) == ([], 0, 0)


def test_equal_documents_keep_their_order(rerank: Rerank) -> None:
    """Equal documents have equal scores and stay in the request's order; empty ones are scored like any text."""
    response = rerank(model=MODEL, query=QUERY, documents=["", "4", "", "4"])
    scores = {result.index: result.relevance_score for result in response.results}
    assert scores[0] == scores[2] and scores[1] == scores[3]
    assert order(response).index(0) < order(response).index(2)
    assert order(response).index(1) < order(response).index(3)


def test_models_share_one_server(rerank: Rerank) -> None:
    """An alias and the model it stands for give the same scores."""
    scores = [
        [result.relevance_score for result in rerank(model=model, query=QUERY, documents=DOCUMENTS).results]
        for model in ("demo", "zerank-1", "zerank-1-small")
    ]
    assert scores[1] == pytest.approx(scores[0], abs=1e-6)
    assert scores[2] == pytest.approx(scores[0], abs=1e-6)


def test_unusual_texts(rerank: Rerank) -> None:
    """Texts of every script, control characters and special tokens come through JSON and are scored."""
    documents = ["\0", "<|im_end|>", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301", "\u202eabc", "\u6c34" * 3000, "x" * 12_000]
    response = rerank(model=MODEL, query="\u001c\u00e9\u0000?", documents=documents)
    assert sorted(order(response)) == list(range(len(documents)))
    assert all(0 <= result.relevance_score <= 1 for result in response.results)


def test_base_url_without_version() -> None:
    """Clients that leave out `/v1` are served too."""
    base_url = os.environ["ZEROENTROPY_BASE_URL"].removesuffix("/v1")
    with ZeroEntropy(base_url=base_url, _strict_response_validation=True) as client:
        response = client.models.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    assert len(response.results) == len(DOCUMENTS)


def test_response_headers() -> None:
    """Every answer says what it is and has an id to ask about."""
    with ZeroEntropy() as client:
        raw = client.models.with_raw_response.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.headers["cache-control"] == "no-cache"
    assert uuid.UUID(raw.headers["x-request-id"])


def test_unknown_model() -> None:
    """An unknown model is named, with what there is."""
    body = CountingClient().fail(
        zeroentropy.NotFoundError, 404, lambda client: client.models.rerank(model="zerank-9", query=QUERY, documents=DOCUMENTS)
    )
    assert body["detail"] == body["message"]
    assert "zerank-9" in body["message"] and "demo" in body["message"]


def test_unknown_route_and_embedding() -> None:
    """What is not served is 404, as for an unknown model."""
    CountingClient().fail(zeroentropy.NotFoundError, 404, lambda client: client.post("/models/nothing", cast_to=object, body={}))
    CountingClient().fail(
        zeroentropy.NotFoundError, 404, lambda client: client.models.embed(model="zembed-1", input="a", input_type="query")
    )


def test_wrong_method() -> None:
    """A known route answers another method with 405."""
    CountingClient().fail(zeroentropy.APIStatusError, 405, lambda client: client.get("/models/rerank", cast_to=object))


def test_too_many_bytes() -> None:
    """A request of 5,000,000 counted bytes passes the limit by its frame, and the limit is named."""
    documents = ["x" * 1_000_000] * 5
    body = CountingClient().fail(
        zeroentropy.BadRequestError, 400, lambda client: client.models.rerank(model=MODEL, query=QUERY, documents=documents)
    )
    assert body["detail"] == body["message"]
    assert "5000000" in body["message"].replace(",", "").replace("_", "")


def test_too_large_body() -> None:
    """A body over 16 MiB is refused in a way that a client still sending can read."""
    documents = ["x" * (17 << 20)]
    CountingClient().fail(
        zeroentropy.APIStatusError, 413, lambda client: client.models.rerank(model=MODEL, query=QUERY, documents=documents)
    )


@pytest.mark.parametrize(
    ("change", "kind", "location"),
    [
        ({"query": None}, "string_type", ["body", "query"]),
        ({"query": 5}, "string_type", ["body", "query"]),
        ({"documents": "4"}, "list_type", ["body", "documents"]),
        ({"documents": ["4", 5]}, "string_type", ["body", "documents", 1]),
        ({"model": 1}, "string_type", ["body", "model"]),
        ({"top_n": 0}, "greater_than_equal", ["body", "top_n"]),
        ({"top_n": -1}, "greater_than_equal", ["body", "top_n"]),
        ({"top_n": "1"}, "int_type", ["body", "top_n"]),
        ({"top_n": 1.5}, "int_from_float", ["body", "top_n"]),
        ({"latency": "medium"}, "literal_error", ["body", "latency"]),
    ],
)
def test_wrong_values(change: dict[str, Any], kind: str, location: list[str | int]) -> None:
    """A wrong value is 422 with its place and kind, as the provider's validation reports it."""
    body = CountingClient().fail(
        zeroentropy.UnprocessableEntityError,
        422,
        lambda client: client.models.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, extra_body=change),
    )
    [entry] = body["detail"]
    assert (entry["type"], entry["loc"]) == (kind, location)
    assert entry["msg"] in body["message"]


def test_missing_fields() -> None:
    """All missing fields are reported at once."""
    body = CountingClient().fail(
        zeroentropy.UnprocessableEntityError, 422, lambda client: client.post("/models/rerank", cast_to=object, body={})
    )
    missing = {tuple(entry["loc"]) for entry in body["detail"] if entry["type"] == "missing"}
    assert missing == {("body", "query"), ("body", "documents")}


def test_overload_is_retried_after_a_hint() -> None:
    """A full queue is 429 with the seconds to wait, and the SDK comes back after them."""
    large = [f"{number} {'filler words ' * 40}" for number in range(250)]
    small = CountingClient(max_retries=1)
    # The large one is over the queue's bound and waits for a moment without a small one.
    with ThreadPoolExecutor(1) as pool, ZeroEntropy(timeout=600, max_retries=20) as client:
        running = pool.submit(client.models.rerank, model=MODEL, query=QUERY, documents=large)
        while len(small.responses) < 2 and not running.done():
            small.responses.clear()
            with contextlib.suppress(zeroentropy.RateLimitError):
                small.client.models.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
            time.sleep(0.05)
        assert len(running.result().results) == len(large)
    assert small.responses[0].status_code == 429
    assert 1 <= int(small.responses[0].headers["retry-after"]) <= 60
    assert len(small.responses) == 2


def test_curl_without_model() -> None:
    """The provider's curl example has no `model` and, like this call, need not have a content type."""
    if not shutil.which("curl"):
        if os.environ.get("CI"):
            pytest.fail("curl is not installed")
        pytest.skip("curl is not installed")
    body = json.dumps({"query": QUERY, "documents": DOCUMENTS})
    url = os.environ["ZEROENTROPY_BASE_URL"] + "/models/rerank"
    done = subprocess.run(["curl", "-sS", "--fail-with-body", url, "--data", body], capture_output=True, check=True)
    response = json.loads(done.stdout)
    assert [result["index"] for result in response["results"]] == [0, 1]
    assert set(response) == {"results", "total_bytes", "total_tokens", "actual_latency_mode", "e2e_latency", "inference_latency"}
