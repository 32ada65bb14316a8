"""What microservices do with a release: the official SDK through its Service, gRPC over all of its pods."""

import time
import urllib.request

import grpc
from zeroentropy import ZeroEntropy

QUERY, DOCUMENTS = "What is 2+2?", ["4", "The answer is definitely 1 million."]


def sdk_order(address, model):
    """The documents' order by the official Python SDK, over HTTP."""
    with ZeroEntropy(api_key="none", base_url=f"http://{address}/v1", max_retries=0) as client:
        return [result.index for result in client.models.rerank(model=model, query=QUERY, documents=DOCUMENTS).results]


def grpc_calls(target, admins, count):
    """How many of `count` calls, one after the other over a channel that takes turns, each pod has answered.

    `target` is in gRPC's own naming; `admins` are the pods' admin listeners.
    """
    request = _field(2, QUERY) + b"".join(_field(3, document) for document in DOCUMENTS)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # Names are resolved when a channel is made, and the last pod's may be a moment old.
        with grpc.insecure_channel(target, [("grpc.lb_policy_name", "round_robin")]) as channel:
            rerank = channel.unary_unary("/reranker.v1.Reranker/Rerank")
            start = [_answered(admin) for admin in admins]
            for _ in range(10):
                rerank(request, timeout=30)
            before = [_answered(admin) for admin in admins]
            if all(now > then for now, then in zip(before, start)):
                for _ in range(count):
                    rerank(request, timeout=30)
                return [_answered(admin) - then for admin, then in zip(admins, before)]
        time.sleep(1)
    raise AssertionError(f"no channel to {target} has met all of {admins}")


def _field(number, text):
    """A string field of a message as protobuf has it on the wire."""
    data = text.encode()
    return bytes([number << 3 | 2, len(data)]) + data


def _answered(admin):
    """Reranks over gRPC that a pod has answered, from its metrics."""
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = ('protocol="grpc"', 'code="ok"', 'Reranker/Rerank"')
    counted = (line for line in lines if line.startswith("reranker_requests_total{") and all(part in line for part in wanted))
    return sum(float(line.rpartition(" ")[2]) for line in counted)
