"""The official Python SDK, 0.1.0a6, unchanged: no `model`, the response is read as `results` alone."""

import asyncio

import pytest
import zeroentropy
from zeroentropy import AsyncZeroEntropy, ZeroEntropy

QUERY = "What is 2+2?"
DOCUMENTS = ["4", "The answer is definitely 1 million."]


def test_documentation_example() -> None:
    """The product documentation's example, word for word, gives the answer first."""

    async def call() -> list[int]:
        response = await AsyncZeroEntropy().models.rerank(query=QUERY, documents=DOCUMENTS)
        return [result.index for result in response.results]

    assert asyncio.run(call()) == [0, 1]


@pytest.mark.parametrize("strict", [False, True])
def test_synchronous(strict: bool) -> None:
    """Fields that this version does not know do no harm, in strict validation neither."""
    with ZeroEntropy(_strict_response_validation=strict) as client:
        response = client.models.rerank(query=QUERY, documents=DOCUMENTS, top_n=1)
    [result] = response.results
    assert 0 <= result.relevance_score <= 1


def test_model_is_accepted() -> None:
    """The optional model selects, and an unknown one raises this version's exception."""
    with ZeroEntropy(_strict_response_validation=True) as client:
        response = client.models.rerank(model="zerank-1", query=QUERY, documents=DOCUMENTS)
        assert len(response.results) == len(DOCUMENTS)
        with pytest.raises(zeroentropy.NotFoundError):
            client.models.rerank(model="zerank-1-large", query=QUERY, documents=DOCUMENTS)
        with pytest.raises(zeroentropy.UnprocessableEntityError):
            client.models.rerank(query=QUERY, documents=DOCUMENTS, top_n=0)
