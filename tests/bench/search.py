"""Measures collections over HTTP: durable adds, indexing, search beside SQLite FTS5 and OpenSearch, memory, retrieval quality.

    cargo build --release --package reranker
    python tests/bench/search.py --binary target/release/reranker

`--only quality` needs numpy and the held-out paragraphs of the demo model (`make demo` describes them; they are collected from
this machine's packages where they are not there). `--opensearch URL` adds OpenSearch to the search. `--documents 10000` is a
quick look.
"""

import argparse
import http.client
import itertools
import json
import math
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from load import row
from loopback import Server

CLIENTS = 8
CHARACTERS = 2000
QUERIES = 500
DEMO = Path(__file__).parents[2] / "service/engine/demo"
COLLECTION = "bench"


class Client:
    """One kept connection."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=600)

    def call(self, route: str, **body: Any) -> Any:
        """Posts a request that must succeed."""
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


def five_words(texts: list[str]) -> list[str]:
    """Queries of five words, each set drawn from one text, so that common and rare words come as they do there."""
    chosen = random.Random(2)
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


def add_all(server: Server, texts: list[str]) -> list[float]:
    """Adds every text as a document by CLIENTS clients; one in a hundred is in bucket 0. Gives the times of the calls."""
    times: list[float] = []
    numbers = iter(range(len(texts)))
    lock = threading.Lock()

    def run() -> None:
        client = Client(server)
        while True:
            with lock:
                at = next(numbers, None)
            if at is None:
                return
            content = {"type": "text", "text": texts[at]}
            start = time.perf_counter()
            client.call("/documents/add-document", path=f"{at:07}", content=content, metadata={"bucket": str(at % 100)})
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


def fts5(folder: str, texts: list[str]) -> Callable[[str, bool], Any]:
    """The peer that needs no server: the same texts in SQLite's FTS5 with porter stemming."""
    database = sqlite3.connect(f"{folder}/fts5.sqlite")
    database.execute("CREATE VIRTUAL TABLE passages USING fts5(text, bucket UNINDEXED, tokenize='porter unicode61')")
    start = time.perf_counter()
    rows = ((text, str(at % 100)) for at, text in enumerate(texts))
    database.executemany("INSERT INTO passages VALUES (?, ?)", rows)
    database.commit()
    size = sum(map(len, texts)) / 1e6
    row("FTS5: indexing", f"{size / (time.perf_counter() - start):.1f} MB/s")
    plain = "SELECT rowid, text FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT 10"
    kept = "SELECT rowid, text FROM passages WHERE passages MATCH ? AND bucket = '0' ORDER BY rank LIMIT 10"

    def search(query: str, filtered: bool) -> Any:
        words = " OR ".join(f'"{word}"' for word in query.split(" "))
        return database.execute(kept if filtered else plain, (words,)).fetchall()

    return search


def opensearch(url: str, texts: list[str]) -> Callable[[str, bool], Any]:
    """The peer that is a server: one index, one shard, English analyser."""

    def request(method: str, path: str, body: str) -> Any:
        head = {"content-type": "application/json"}
        sent = urllib.request.Request(f"{url}/{path}", body.encode(), head, method=method)
        with urllib.request.urlopen(sent) as response:
            return json.load(response)

    text = {"type": "text", "analyzer": "english"}
    properties = {"properties": {"text": text, "bucket": {"type": "keyword"}}}
    request("PUT", "bench", json.dumps({"settings": {"number_of_shards": 1, "number_of_replicas": 0}, "mappings": properties}))
    start = time.perf_counter()
    for first in range(0, len(texts), 500):
        lines = [f'{{"index":{{}}}}\n{json.dumps({"text": texts[at], "bucket": str(at % 100)})}\n' for at in range(first, min(first + 500, len(texts)))]
        request("POST", "bench/_bulk", "".join(lines))
    request("POST", "bench/_refresh", "")
    row("OpenSearch: indexing", f"{sum(map(len, texts)) / 1e6 / (time.perf_counter() - start):.1f} MB/s")

    def search(query: str, filtered: bool) -> Any:
        asked = {"bool": {"must": {"match": {"text": query}}, "filter": {"term": {"bucket": "0"}} if filtered else []}}
        return request("POST", "bench/_search", json.dumps({"size": 10, "query": asked}))

    return search


def search(args: argparse.Namespace, folder: str) -> None:
    """Adds, indexing, memory and search on generated texts."""
    texts = list(zipf_texts(args.documents))
    size = sum(map(len, texts)) / 1e6
    row("corpus", f"{len(texts):,} documents of {CHARACTERS} characters, {size:,.0f} MB")
    data = f"{folder}/data"
    with Server(args.binary, "demo", f"--data-dir={data}") as server:
        idle = server.memory("VmRSS")
        client = Client(server)
        client.call("/collections/add-collection")
        start = time.perf_counter()
        times = add_all(server, texts)
        added = time.perf_counter() - start
        row(f"add-document, {CLIENTS} clients", f"{len(texts) / added:,.0f} documents/s; p50 {times[len(times) // 2] * 1e3:.1f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:.1f} ms")
        wait(client)
        row("from the first add to all indexed", f"{size / (time.perf_counter() - start):.1f} MB/s")
    shutil.rmtree(f"{data}/index")
    start = time.perf_counter()
    with Server(args.binary, "demo", f"--data-dir={data}") as server:
        client = Client(server)
        wait(client)
        rebuilt = time.perf_counter() - start
        row("index made anew from the database, start of the server included", f"{size / rebuilt:.1f} MB/s")
    with Server(args.binary, "demo", f"--data-dir={data}") as server:
        row("memory idle with all documents", f"+{(server.memory('VmRSS') - idle) / 1e6:,.0f} MB over an empty server's {idle / 1e6:,.0f}")
        client = Client(server)
        queries = five_words(texts)

        def ours(query: str, filtered: bool) -> Any:
            kept = {"filter": {"bucket": "0"}} if filtered else {}
            return client.call("/queries/top-snippets", query=query, k=10, **kept)

        engines = {"ours, over HTTP": ours, "SQLite FTS5, in this process": fts5(folder, texts)}
        if args.opensearch:
            engines["OpenSearch, over HTTP"] = opensearch(args.opensearch, texts)
        for filtered in (False, True):
            for name, engine in engines.items():
                for query in queries[:50]:
                    engine(query, filtered)
                calls = [lambda query=query, engine=engine: engine(query, filtered) for query in queries]
                kept = ", filter keeps 1 %" if filtered else ""
                row(f"5 words, 10 best{kept}; {name}: p50, p99", timed(calls))


def quality(args: argparse.Namespace, folder: str) -> None:
    """nDCG@10 on held-out paragraphs that lack one sentence, which is the query."""
    sys.path.insert(0, str(DEMO))
    import corpus  # noqa: PLC0415 - of the demo model
    from lexical import Bm25, cut_sentence  # noqa: PLC0415

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
        add_all(server, [pair.document for pair in pairs])
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


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=("search", "quality"), default=("search", "quality"))
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--opensearch", metavar="URL", help="a running node to measure beside")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/reranker/demo", help="folder with corpus.jsonl")
    args = parser.parse_args()
    print("| figure | |\n| --- | --- |")
    for name, measure in {"search": search, "quality": quality}.items():
        if name in args.only:
            with tempfile.TemporaryDirectory() as folder:
                measure(args, folder)


if __name__ == "__main__":
    main()
