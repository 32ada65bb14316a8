"""Measures collections over HTTP: durable adds, indexing, search beside SQLite FTS5 and OpenSearch, memory, retrieval quality.

    cargo build --release --package reranker
    python tests/bench/search.py --binary target/release/reranker

Texts are passages of 2000 characters, 100 in a document. `--only quality` needs numpy and the held-out paragraphs of the demo model
(`make demo` describes them; they are collected from this machine's packages where they are not there), and rank_bm25 if its agreement
is wanted. `--peers fts5 opensearch` also starts a node of OpenSearch (tests/opensearch; a JDK and Maven). `--passages 10000` is a quick look,
`--passages 1000000 --peers none` a long one.
"""

import argparse
import http.client
import itertools
import json
import math
import random
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from load import row
from loopback import Server

CLIENTS = 8
CHARACTERS = 2000
TOGETHER = 100
SMALL = 10_000
QUERIES = 500
# Seconds.
IDLE = 5
TESTS = Path(__file__).parents[1]
DEMO = TESTS.parent / "service/engine/demo"
COLLECTION = "bench"


class Client:
    """One kept connection."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=600)
        self.used = time.monotonic()

    def call(self, route: str, **body: Any) -> Any:
        """Posts a request that must succeed; over a new connection if it was idle so long that the server may have closed it."""
        if time.monotonic() - self.used > IDLE:
            self.connection.close()
        self.used = time.monotonic()
        self.connection.request("POST", f"/v1{route}", json.dumps(body | {"collection_name": COLLECTION}))
        response = self.connection.getresponse()
        answer = json.load(response)
        if response.status not in (200, 201):
            raise SystemExit(f"{route}: {response.status} {answer}")
        return answer


def zipf_texts(count: int) -> Iterator[str]:
    """English-like texts of about CHARACTERS characters: words of 2 to 10 letters, the n-th one in proportion to 1 / n."""
    chosen = random.Random(1)
    words = sorted({"".join(chosen.choices("etaoinshrdlucmfwypvbgk", k=chosen.randint(2, 10))) for _ in range(60_000)}, key=len)
    sums = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    for _ in range(count):
        text = " ".join(chosen.choices(words, cum_weights=sums, k=CHARACTERS // 4))
        yield text[:CHARACTERS].rsplit(" ", 1)[0] + "."


def documents(passages: int) -> Iterator[tuple[str, str, str]]:
    """Path, text and bucket of documents of TOGETHER passages each."""
    texts = zipf_texts(passages)
    for at in range(passages // TOGETHER):
        yield f"{at:07}", "\n\n".join(itertools.islice(texts, TOGETHER)), str(at % 100)


def passages(count: int) -> Iterator[tuple[str, str]]:
    """The same, passage by passage, as text and bucket."""
    for at, text in enumerate(zipf_texts(count)):
        yield text, str(at // TOGETHER % 100)


def five_words(count: int) -> list[str]:
    """Queries of five words, each set drawn from one text, so that common and rare words come as they do there."""
    chosen = random.Random(2)
    texts = list(zipf_texts(min(count, 2000)))
    return [" ".join(chosen.sample(chosen.choice(texts).rstrip(".").split(" "), 5)) for _ in range(QUERIES)]


def timed(calls: list[Callable[[], Any]]) -> str:
    """p50 and p99 of calls one after the other, in ms."""
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    return f"{times[len(times) // 2]:.1f} ms, {times[int(len(times) * 0.99)]:.1f} ms"


def add_all(server: Server, texts: Iterable[tuple[str, str, str]]) -> list[float]:
    """Adds documents of a path, a text and a bucket by CLIENTS clients. Gives the times of the calls."""
    times: list[float] = []
    waiting = iter(texts)
    lock = threading.Lock()

    def run() -> None:
        client = Client(server)
        while True:
            with lock:
                document = next(waiting, None)
            if document is None:
                return
            path, text, bucket = document
            start = time.perf_counter()
            client.call("/documents/add-document", path=path, content={"type": "text", "text": text}, metadata={"bucket": bucket})
            times.append(time.perf_counter() - start)

    threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times)


def wait(client: Client) -> None:
    """Waits until all is indexed."""
    while True:
        status = client.call("/status/get-status")
        if status["num_indexed_documents"] == status["num_documents"]:
            return
        time.sleep(0.05)


def fts5(folder: str, count: int) -> Callable[[str, bool], Any]:
    """The peer that needs no server: the same texts in SQLite's FTS5 with porter stemming."""
    database = sqlite3.connect(f"{folder}/fts5.sqlite")
    database.execute("CREATE VIRTUAL TABLE passages USING fts5(text, bucket UNINDEXED, tokenize='porter unicode61')")
    start, size = time.perf_counter(), 0
    for text, bucket in passages(count):
        size += len(text)
        database.execute("INSERT INTO passages VALUES (?, ?)", (text, bucket))
    database.commit()
    row("FTS5: generating and indexing", f"{size / 1e6 / (time.perf_counter() - start):.1f} MB/s")
    plain = "SELECT rowid, text FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT 10"
    kept = "SELECT rowid, text FROM passages WHERE passages MATCH ? AND bucket = '0' ORDER BY rank LIMIT 10"

    def search(query: str, filtered: bool) -> Any:
        words = " OR ".join(f'"{word}"' for word in query.split(" "))
        return database.execute(kept if filtered else plain, (words,)).fetchall()

    return search


@contextmanager
def opensearch_node(folder: str) -> Iterator[int]:
    """A node of one's own for the time of a `with` block; gives its port."""
    port = 9200
    environment = os.environ | {"OPENSEARCH_HEAP": "1g", "OPENSEARCH_JAVA_OPTS": ""}
    node = subprocess.Popen([TESTS / "opensearch/opensearch.sh", str(port), f"{folder}/opensearch"], env=environment)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_cluster/health").close()
                break
            except OSError:
                if node.poll() is not None:
                    raise SystemExit("OpenSearch does not start; see what it wrote") from None
                time.sleep(0.5)
        yield port
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(60)


def opensearch(port: int, count: int) -> Callable[[str, bool], Any]:
    """The peer that is a server: one index, one shard, English analyser."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def request(method: str, path: str, body: str) -> Any:
        connection.request(method, f"/{path}", body.encode(), {"content-type": "application/json"})
        response = connection.getresponse()
        answer = json.load(response)
        if response.status not in (200, 201):
            raise SystemExit(f"OpenSearch, {path}: {response.status} {answer}")
        return answer

    text = {"type": "text", "analyzer": "english"}
    properties = {"properties": {"text": text, "bucket": {"type": "keyword"}}}
    request("PUT", "bench", json.dumps({"settings": {"number_of_shards": 1, "number_of_replicas": 0}, "mappings": properties}))
    start, size = time.perf_counter(), 0
    waiting = passages(count)
    while batch := list(itertools.islice(waiting, 500)):
        size += sum(len(text) for text, _ in batch)
        lines = (f'{{"index":{{}}}}\n{json.dumps({"text": text, "bucket": bucket})}\n' for text, bucket in batch)
        request("POST", "bench/_bulk", "".join(lines))
    request("POST", "bench/_refresh", "")
    row("OpenSearch: generating and indexing", f"{size / 1e6 / (time.perf_counter() - start):.1f} MB/s")

    def search(query: str, filtered: bool) -> Any:
        asked = {"bool": {"must": {"match": {"text": query}}, "filter": {"term": {"bucket": "0"}} if filtered else []}}
        return request("POST", "bench/_search", json.dumps({"size": 10, "query": asked}))

    return search


def rate(megabytes: float, seconds: float, server: Server, before: float) -> str:
    """MB/s and what of it the server's CPU is."""
    return f"{megabytes / seconds:.1f} MB/s; {1e3 * (server.cpu()['all'] - before) / megabytes:.0f} ms of the server's CPU a MB"


def adding(args: argparse.Namespace, folder: str) -> None:
    """Durable adds of small documents, one passage each."""
    with Server(args.binary, "demo", f"--data-dir={folder}/adds") as server:
        client = Client(server)
        client.call("/collections/add-collection")
        texts = [(f"{at:07}", text, "0") for at, text in enumerate(zipf_texts(min(args.passages, SMALL)))]
        start = time.perf_counter()
        times = add_all(server, texts)
        added = time.perf_counter() - start
        row(f"add-document, {len(texts):,} documents of {CHARACTERS} characters, {CLIENTS} clients", f"{len(texts) / added:,.0f} a second; p50 {times[len(times) // 2] * 1e3:.1f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:.1f} ms")
        wait(client)
        row("the same, from the first add to all indexed", rate(len(texts) * CHARACTERS / 1e6, time.perf_counter() - start, server, 0))


def search(args: argparse.Namespace, folder: str) -> None:
    """Adds, indexing, memory and search on generated texts."""
    adding(args, folder)
    size = args.passages * CHARACTERS / 1e6
    row("corpus", f"{args.passages:,} passages of {CHARACTERS} characters, {TOGETHER} a document, {size:,.0f} MB")
    data = f"{folder}/data"
    with Server(args.binary, "demo", f"--data-dir={data}") as server:
        idle = server.memory("VmRSS")
        client = Client(server)
        client.call("/collections/add-collection")
        # Made before: the clock is not the generator's.
        made = list(documents(args.passages)) if args.passages <= 200_000 else documents(args.passages)
        before, start = server.cpu()["all"], time.perf_counter()
        add_all(server, made)
        wait(client)
        row("from the first add to all indexed", rate(size, time.perf_counter() - start, server, before))
        del made
    shutil.rmtree(f"{data}/index")
    start = time.perf_counter()
    with Server(args.binary, "demo", f"--data-dir={data}") as server:
        client = Client(server)
        wait(client)
        row("index made anew from the database, start of the server included", rate(size, time.perf_counter() - start, server, 0))
    with Server(args.binary, "demo", f"--data-dir={data}") as server:
        row("memory idle with all documents", f"+{(server.memory('VmRSS') - idle) / 1e6:,.0f} MB over an empty server's {idle / 1e6:,.0f}")
        client = Client(server)

        def ours(query: str, filtered: bool) -> Any:
            kept = {"filter": {"bucket": "0"}} if filtered else {}
            return client.call("/queries/top-snippets", query=query, k=10, **kept)

        measure(args, "ours, over HTTP", ours)
        row("memory after these queries", f"+{(server.memory('VmRSS') - idle) / 1e6:,.0f} MB, of that not files +{server.memory('RssAnon') / 1e6:,.0f} MB in all")
    if "fts5" in args.peers:
        measure(args, "SQLite FTS5, in this process", fts5(folder, args.passages))
    if "opensearch" in args.peers:
        with opensearch_node(folder) as port:
            measure(args, "OpenSearch, over HTTP", opensearch(port, args.passages))


def measure(args: argparse.Namespace, name: str, engine: Callable[[str, bool], Any]) -> None:
    """The times of an engine's answers, each query once before."""
    queries = five_words(args.passages)
    for filtered in (False, True):
        for query in queries:
            engine(query, filtered)
        calls = [lambda query=query: engine(query, filtered) for query in queries]
        row(f"5 words, 10 best{', filter keeps 1 %' if filtered else ''}; {name}: p50, p99", timed(calls))


def quality(args: argparse.Namespace, folder: str) -> None:
    """nDCG@10 on held-out paragraphs that lack one sentence, which is the query."""
    sys.path.insert(0, str(DEMO))
    import corpus  # noqa: PLC0415 - of the demo model
    from lexical import Bm25, cut_sentence, words  # noqa: PLC0415

    path = args.work / "corpus.jsonl"
    if not path.exists():
        args.work.mkdir(parents=True, exist_ok=True)
        corpus.collect(path, [])
    paragraphs = map(json.loads, path.read_text("utf-8").splitlines())
    held_out = (cut_sentence(line["text"], line["package"]) for line in paragraphs if corpus.is_held_out(line["package"]))
    pairs = [pair for pair in held_out if pair]
    asked = random.Random(1).sample(range(len(pairs)), args.queries)
    index = Bm25([pair.document for pair in pairs])

    def gain(ranked: list[int], right: int) -> float:
        return 1 / math.log2(ranked.index(right) + 2) if right in ranked else 0.0

    with Server(args.binary, "demo", f"--data-dir={folder}/quality", "--language=none") as server:
        client = Client(server)
        client.call("/collections/add-collection")
        add_all(server, [(f"{at:07}", pair.document, "0") for at, pair in enumerate(pairs)])
        wait(client)
        gains: dict[str, list[float]] = {}
        agreeing = 0
        for at in asked:
            query = pairs[at].query
            scores = index.scores(query)
            best = sorted(range(len(pairs)), key=lambda i: (-scores[i], i))[:10]
            found = {"BM25 of the demo's card": best}
            for name, more in {"candidates alone": {}, "candidates and demo": {"reranker": "demo"}}.items():
                answer = client.call("/queries/top-documents", query=query, k=10, **more)
                found[name] = [int(result["path"]) for result in answer["results"]]
            agreeing += len(set(best) & set(found["candidates alone"]))
            for name, ranked in found.items():
                gains.setdefault(name, []).append(gain(ranked, at))
    for name, values in gains.items():
        row(f"nDCG@10, {len(asked):,} queries, {len(pairs):,} documents; {name}", f"{sum(values) / len(values):.4f}")
    row("the same documents among the ten best, both BM25", f"{agreeing / len(asked) / 10:.1%}")
    documents = [words(pair.document) for pair in pairs[:5000]]
    row(f"the same on the same words as rank_bm25, {len(documents):,} documents", agreement(args, folder, documents, [words(pair.query) for pair in pairs[:200]]))


def agreement(args: argparse.Namespace, folder: str, documents: list[list[str]], queries: list[list[str]]) -> str:
    """The share of rank_bm25's ten best that are ours too, where both are given the same words."""
    try:
        from rank_bm25 import BM25Okapi  # noqa: PLC0415
    except ImportError:
        return "not measured: rank_bm25 is not installed"
    # Its floor under the weight of the commonest words is taken away as far as it can be: Lucene's weight has none.
    peer = BM25Okapi(documents, k1=1.2, b=0.75, epsilon=0)
    agreeing = 0
    with Server(args.binary, "demo", f"--data-dir={folder}/agreement", "--language=none") as server:
        client = Client(server)
        client.call("/collections/add-collection")
        add_all(server, [(f"{at:07}", " ".join(document), "0") for at, document in enumerate(documents)])
        wait(client)
        for query in queries:
            scores = peer.get_scores(query)
            best = set(sorted(range(len(documents)), key=lambda i: (-scores[i], i))[:10])
            answer = client.call("/queries/top-documents", query=" ".join(query), k=10)
            agreeing += len(best & {int(result["path"]) for result in answer["results"]})
    return f"{agreeing / len(queries) / 10:.1%}"


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=("search", "quality"), default=("search", "quality"))
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--peers", nargs="+", choices=("fts5", "opensearch", "none"), default=("fts5",), help="to measure beside")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/reranker/demo", help="folder with corpus.jsonl")
    args = parser.parse_args()
    print("| figure | |\n| --- | --- |")
    for name, measure in {"search": search, "quality": quality}.items():
        if name in args.only:
            with tempfile.TemporaryDirectory() as folder:
                measure(args, folder)


if __name__ == "__main__":
    main()
