"""Requests made from the API documents, and near misses of them: every answer is one that the documents foresee.

The same requests every time. `tests/openapi` has the documents.
"""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

FOLDER = Path(__file__).parents[2] / "openapi"
DEMO = os.environ["ZEROENTROPY_BASE_URL"].removesuffix("/v1")
MOCK = os.environ["TEST_API_BASE_URL"]
SERVED = ["demo", "zerank-1-small"]
# The texts of /score, left before right.
SIDES = ["text_1", "queries", "data_1", "text_2", "documents", "items", "data_2"]
# What the provider's document leaves out, and what any route may say.
ALSO = {400, 401, 403, 413, 429, 503}


def load(name: str) -> dict[str, Any]:
    """Reads one of the documents."""
    return json.loads((FOLDER / name).read_text())


HOSTED = load("zeroentropy-2026-07.json")
COMPAT = load("compat.json")
OWN_PATHS = [path for path, item in HOSTED["paths"].items() if "post" in item and not path.startswith(("/admin/", "/usage/"))]

arbitrary = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


class Values:
    """Values that the schemas of a document allow, for the part of JSON Schema that the documents use."""

    def __init__(self, document: dict[str, Any]) -> None:
        schemas = document["components"]["schemas"]
        # One strategy a name, so that a schema may hold itself.
        self.named = {name: st.deferred(lambda schema=schema: self.of(schema)) for name, schema in schemas.items()}

    def of(self, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
        """Values of one schema."""
        if "$ref" in schema:
            return self.named[schema["$ref"].removeprefix("#/components/schemas/")]
        for alternatives in ("anyOf", "oneOf", "allOf"):
            if alternatives in schema:
                return st.one_of([self.of(part) for part in schema[alternatives]])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        least = schema.get("minimum")
        match schema["type"]:
            case "string":
                return st.text(max_size=40)
            case "integer":
                edges = [value for value in (-1, 0, 1, 2, 2**31, 2**63, 2**64) if least is None or value >= least]
                return st.sampled_from(edges) | st.integers(min_value=least)
            case "number":
                return st.floats(allow_nan=False, allow_infinity=False)
            case "boolean":
                return st.booleans()
            case "null":
                return st.none()
            case "array":
                return st.lists(self.of(schema["items"]), max_size=5)
            case "object":
                return self.objects(schema)
        raise NotImplementedError(schema)

    def objects(self, schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
        """Values of an object's schema."""
        fields = {name: self.of(part) for name, part in schema.get("properties", {}).items()}
        required = {name: fields.pop(name) for name in schema.get("required", [])}
        known = st.fixed_dictionaries(required, optional=fields)
        if not isinstance(schema.get("additionalProperties"), dict):
            return known
        more = st.dictionaries(st.sampled_from(["title", "list:tags", "é", ""]), self.of(schema["additionalProperties"]), max_size=3)
        return st.builds(lambda known, more: more | known, known, more)


@st.composite
def bodies(draw: st.DrawFn, allowed: st.SearchStrategy[dict[str, Any]]) -> tuple[bytes, Any]:
    """A request's bytes, and what it says if the document allows it."""
    body = draw(allowed)
    if "model" in body and draw(st.integers(0, 3)):
        body["model"] = draw(st.sampled_from(SERVED))
    kind = draw(st.sampled_from(["valid", "valid", "valid", "field", "field", "value", "bytes"]))
    if kind == "valid":
        return json.dumps(body, ensure_ascii=draw(st.booleans())).encode(), body
    if kind == "field":
        name = draw(st.sampled_from(sorted(body) or ["query"]))
        if draw(st.booleans()):
            body.pop(name, None)
        else:
            body[name] = draw(arbitrary)
        return json.dumps(body).encode(), None
    if kind == "value":
        return json.dumps(draw(arbitrary)).encode(), None
    text = json.dumps(body).encode()
    cut = draw(st.integers(0, len(text)))
    return text[:cut] + draw(st.binary(max_size=4)) + text[cut + draw(st.integers(0, 3)) :], None


def expected(path: str, body: dict[str, Any], is_mock: bool) -> set[int]:
    """What is said to a request that the documents allow."""
    if path.endswith("/score"):
        left, right = ([side] if isinstance(side, str) else side for side in (body[name] for name in SIDES if name in body))
        if len(left) not in (1, len(right)):
            return {422}
    if is_mock:
        return {200, 201}
    if path.endswith("/models/rerank") and body.get("top_n") is not None and body["top_n"] < 1:
        return {422}
    return {200} if body.get("model") in (None, *SERVED) else {404}


def check(document: dict[str, Any], operation: dict[str, Any], response: httpx.Response) -> None:
    """Holds an answer against the document."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert str(response.status_code) in operation["responses"] or response.status_code in ALSO, body
    content = operation["responses"].get(str(response.status_code), {}).get("content")
    if content and response.status_code in (200, 201, 422):
        schema = content["application/json"]["schema"] | {"components": document["components"]}
        wrong = best_match(Draft202012Validator(schema).iter_errors(body))
        assert wrong is None, f"{wrong.json_path}: {wrong.message}"
    if response.status_code >= 400:
        assert body["message"] and body["detail"]


def fuzz(base: str, path: str, document: dict[str, Any], template: str, examples: int, is_mock: bool) -> None:
    """Sends requests to `base` + `path`, made from the path `template` of the document."""
    operation = document["paths"][template]["post"]
    allowed = Values(document).of(operation["requestBody"]["content"]["application/json"]["schema"])
    answered = []

    with httpx.Client(base_url=base, timeout=60) as client:

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(bodies(allowed))
        def run(body: tuple[bytes, Any]) -> None:
            sent, valid = body
            response = client.post(path, content=sent)
            check(document, operation, response)
            answered.append(response.status_code)
            if valid is not None:
                assert response.status_code in expected(path, valid, is_mock), response.text

        run()
    assert any(status < 300 for status in answered), "no request was answered"
    assert is_mock or 422 in answered, "no request was refused"


@pytest.mark.parametrize("path", ["/models/rerank", "/v1/models/rerank"])
def test_hosted_route(path: str) -> None:
    """The hosted API's route."""
    fuzz(DEMO, path, HOSTED, "/models/rerank", 300, is_mock=False)


@pytest.mark.parametrize("path", COMPAT["paths"])
def test_compatibility_routes(path: str) -> None:
    """The routes of other APIs."""
    fuzz(DEMO, path, COMPAT, path, 300, is_mock=False)


@pytest.mark.parametrize("path", OWN_PATHS)
def test_mocked_routes(path: str) -> None:
    """All of the hosted API, mocked: whatever the document allows is answered."""
    fuzz(MOCK, f"/v1{path}", HOSTED, path, 60, is_mock=True)


@pytest.mark.parametrize("path", COMPAT["paths"])
def test_mocked_compatibility_routes(path: str) -> None:
    """The routes of other APIs, mocked."""
    fuzz(MOCK, path, COMPAT, path, 60, is_mock=True)
