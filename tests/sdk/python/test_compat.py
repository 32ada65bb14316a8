"""Clients of other rerank APIs, unchanged: the right document first, with the scores of the hosted API's route."""

import os
from typing import Any

import cohere
import httpx
import pytest
import voyageai
from langchain_cohere import CohereRerank as LangChainCohere
from langchain_community.document_compressors import JinaRerank as LangChainJina
from langchain_community.document_compressors import jina_rerank
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank as LlamaCohere
from llama_index.postprocessor.jinaai_rerank import JinaRerank as LlamaJina
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

V1 = os.environ["ZEROENTROPY_BASE_URL"]
ROOT = V1.removesuffix("/v1")
KEY = "any key"
MODEL = "demo"
QUERY = "What is the capital of France?"
DOCUMENTS = [
    "Bananas are rich in potassium.",
    "Paris is the capital and largest city of France.",
    "The recipe needs two eggs and some flour.",
    "",
]
BEST = 1

Pairs = list[tuple[int, float]]


def post(path: str, **body: Any) -> httpx.Response:
    """A request as an API's documentation writes it."""
    return httpx.post(f"{ROOT}{path}", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def pairs(results: list[Any], score: str = "relevance_score") -> Pairs:
    """Index and score of each result, objects or dictionaries."""
    return [
        (result["index"], result[score]) if isinstance(result, dict) else (result.index, getattr(result, score)) for result in results
    ]


@pytest.fixture(scope="module")
def scored() -> Pairs:
    """What the hosted API's route says of the documents, best first."""
    response = post("/v1/models/rerank", model=MODEL, query=QUERY, documents=DOCUMENTS)
    result = pairs(response.raise_for_status().json()["results"])
    assert result[0][0] == BEST
    return result


def same(results: Pairs, scored: Pairs) -> None:
    """The results are these, or their beginning."""
    assert results, "no results"
    assert [index for index, _ in results] == [index for index, _ in scored[: len(results)]]
    assert [score for _, score in results] == pytest.approx([score for _, score in scored[: len(results)]], abs=1e-6)


def nodes() -> list[NodeWithScore]:
    """The documents as LlamaIndex's retrievers hand them on; the id is the index."""
    return [NodeWithScore(node=TextNode(text=text, id_=str(index)), score=0.5) for index, text in enumerate(DOCUMENTS)]


def node_pairs(results: list[NodeWithScore]) -> Pairs:
    """Index and score of LlamaIndex's results."""
    return [(int(result.node.node_id), result.score) for result in results]


def test_cohere_v1(scored: Pairs) -> None:
    """Cohere's first client: `/v1/rerank`, with texts on request, and objects."""
    with cohere.Client(api_key=KEY, base_url=ROOT) as client:
        response = client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, return_documents=True)
        same(pairs(response.results), scored)
        assert len(response.results) == len(DOCUMENTS)
        assert [result.document.text for result in response.results] == [DOCUMENTS[index] for index, _ in scored]
        assert response.id and response.meta.api_version.version == "1"
        assert response.meta.billed_units.search_units == 1
        objects = [{"text": text} for text in DOCUMENTS]
        same(pairs(client.rerank(model=MODEL, query=QUERY, documents=objects, top_n=2).results), scored)


def test_cohere_v2(scored: Pairs) -> None:
    """Cohere's present client: `/v2/rerank`."""
    with cohere.ClientV2(api_key=KEY, base_url=ROOT) as client:
        response = client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=3, max_tokens_per_doc=4096)
    same(pairs(response.results), scored)
    assert len(response.results) == 3
    assert response.meta.api_version.version == "2"


def test_cohere_errors() -> None:
    """What is wrong reaches the caller of Cohere's client with its class and words."""
    with cohere.ClientV2(api_key=KEY, base_url=ROOT) as client:
        with pytest.raises(cohere.NotFoundError, match="model `rerank-v3.5` not found"):
            client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)
        with pytest.raises(cohere.UnprocessableEntityError, match="body.top_n"):
            client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=-1)


def test_voyage(scored: Pairs) -> None:
    """Voyage's client reads `data`, and takes the error's words from `detail`."""
    client = voyageai.Client(api_key=KEY, base_url=V1, max_retries=0)
    response = client.rerank(QUERY, DOCUMENTS, model=MODEL, top_k=3)
    same(pairs(response.results), scored)
    assert len(response.results) == 3
    assert response.results[0].document == DOCUMENTS[BEST]
    assert response.total_tokens > 0
    with pytest.raises(voyageai.error.VoyageError, match="model `rerank-2` not found"):
        client.rerank(QUERY, DOCUMENTS, model="rerank-2")


def test_langchain_cohere(scored: Pairs) -> None:
    """LangChain's Cohere compressor, which sends nulls for what it does not set."""
    compressor = LangChainCohere(model=MODEL, cohere_api_key=KEY, base_url=ROOT, top_n=3)
    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(DOCUMENTS)]
    results = compressor.compress_documents(documents, QUERY)
    same([(result.metadata["index"], result.metadata["relevance_score"]) for result in results], scored)
    same(pairs(compressor.rerank(documents, QUERY, top_n=None)), scored)


def test_langchain_jina(scored: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain's Jina compressor; its URL is a constant."""
    monkeypatch.setattr(jina_rerank, "JINA_API_URL", f"{V1}/rerank")
    compressor = LangChainJina(model=MODEL, jina_api_key=KEY, top_n=2)
    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(DOCUMENTS)]
    results = compressor.compress_documents(documents, QUERY)
    same([(result.metadata["index"], result.metadata["relevance_score"]) for result in results], scored)


@pytest.mark.parametrize(
    "reranker",
    [
        lambda: LlamaCohere(model=MODEL, api_key=KEY, base_url=ROOT, top_n=3, max_retries=1),
        lambda: LlamaJina(model=MODEL, api_key=KEY, base_url=V1, top_n=3),
        lambda: TextEmbeddingInference(base_url=ROOT, top_n=3, auth_token=f"Bearer {KEY}"),
    ],
    ids=["cohere", "jina", "tei"],
)
def test_llama_index(scored: Pairs, reranker: Any) -> None:
    """LlamaIndex's postprocessors for Cohere, Jina and Text Embeddings Inference."""
    results = node_pairs(reranker().postprocess_nodes(nodes(), QueryBundle(QUERY)))
    same(results, scored)
    assert len(results) == 3


def test_llama_index_jina_error() -> None:
    """LlamaIndex's Jina postprocessor shows `detail`."""
    reranker = LlamaJina(model="jina-reranker-v2", api_key=KEY, base_url=V1)
    with pytest.raises(RuntimeError, match="model `jina-reranker-v2` not found"):
        reranker.postprocess_nodes(nodes(), QueryBundle(QUERY))


def test_jina_documentation(scored: Pairs) -> None:
    """Jina's own example sends objects and reads the texts."""
    documents = [{"text": text} for text in DOCUMENTS]
    body = post("/v1/rerank", model=MODEL, query=QUERY, top_n=2, documents=documents).raise_for_status().json()
    same(pairs(body["results"]), scored)
    assert body["results"][0]["document"] == {"text": DOCUMENTS[BEST]}
    assert body["usage"]["total_tokens"] > 0 and body["model"] == MODEL


def test_tei_documentation(scored: Pairs) -> None:
    """The example of Text Embeddings Inference, and its error."""
    answer = post("/rerank", query=QUERY, texts=DOCUMENTS, raw_scores=False, return_text=True).raise_for_status().json()
    same(pairs(answer, "score"), scored)
    assert answer[0]["text"] == DOCUMENTS[BEST]
    wrong = post("/rerank", query=QUERY, texts="a text")
    assert (wrong.status_code, wrong.json()["error_type"]) == (422, "validation")
    assert "body.texts" in wrong.json()["error"]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_vllm_rerank(scored: Pairs, path: str) -> None:
    """vLLM's rerank example; 0 is all."""
    body = post(path, model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=0).raise_for_status().json()
    same(pairs(body["results"]), scored)
    assert len(body["results"]) == len(DOCUMENTS)
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")])
def test_vllm_score(scored: Pairs, names: tuple[str, str]) -> None:
    """vLLM's score examples, under the names of all its versions: in the request's order."""
    one, other = names
    for left in (QUERY, [QUERY] * len(DOCUMENTS)):
        body = post("/score", **{"model": MODEL, one: left, other: DOCUMENTS}).raise_for_status().json()
        same(pairs(body["data"], "score"), sorted(scored))
        assert body["object"] == "list" and body["model"] == MODEL
    single = post("/v1/score", **{one: QUERY, other: DOCUMENTS[BEST]}).raise_for_status().json()
    same(pairs(single["data"], "score"), [(0, dict(scored)[BEST])])
