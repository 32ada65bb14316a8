"""Measures what a request costs over loopback on a tiny checkpoint, and the memory that large batches take.

    cargo build --release --package reranker
    python tests/bench/loopback.py --binary target/release/reranker

HTTP is measured with the standard library; gRPC too if `grpcio` is installed. Memory needs Linux (/proc).
"""

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

QUERY = "What is 2+2?"
DOCUMENT = "The answer is 4."
WORDS = "the quick brown fox jumps over the lazy dog and runs into the wide green field "

# A tiny checkpoint, so that the service's own cost shows; and one of 143 million parameters. The full logits of a batch
# of 16,384 tokens and 8,192 words would be 537 MB, more than the bound allows.
TINY = {"layers": 2, "hidden": 64, "heads": 4, "kv-heads": 2, "head-dim": 16, "intermediate": 160}
MIDDLE = {"layers": 8, "hidden": 1024, "heads": 16, "kv-heads": 8, "head-dim": 128, "intermediate": 3072}


class Server:
    """A `reranker serve` on free ports, for the time of a `with` block."""

    def __init__(self, binary: Path, model: str, *arguments: str) -> None:
        listen = [f"--{name}-listen=127.0.0.1:0" for name in ("grpc", "http", "admin")]
        self.process = subprocess.Popen(
            [binary, "serve", f"--model={model}", "--log-format=json", *listen, *arguments],
            env=os.environ | {"RUST_LOG": "info"},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        for line in self.process.stderr or []:
            event = json.loads(line)
            if event["message"] == "listening":
                self.ports = {name: int(event[name].rpartition(":")[2]) for name in ("grpc", "http", "admin")}
            if event["message"] == "ready":
                # A full pipe would stop the server: read on, keep nothing.
                threading.Thread(target=deque, args=(self.process.stderr, 0), daemon=True).start()
                return self
        raise SystemExit(f"the server ended with exit code {self.process.wait()}")

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def memory(self, name: str) -> int:
        """Returns one of the kernel's figures for the process, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        [kilobytes] = re.findall(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kilobytes) * 1024

    def cpu(self) -> Counter[str]:
        """Returns the CPU seconds of the process by thread, named without the number at its end."""
        seconds: Counter[str] = Counter()
        process = Path(f"/proc/{self.process.pid}")
        for stat in [process / "stat", *process.glob("task/*/stat")]:
            name, _, fields = stat.read_text("utf-8").partition("(")[2].rpartition(") ")
            name = "all" if stat.parent == process else name.rstrip("0123456789-")
            seconds[name] += sum(int(field) for field in fields.split()[11:13]) / os.sysconf("SC_CLK_TCK")
        return seconds

    def metric(self, name: str) -> float:
        """Returns the sum over the labels of a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))


def write_fixture(binary: Path, shape: dict[str, int], directory: Path) -> int:
    """Writes a random bf16 checkpoint and returns the bytes of its weights."""
    flags = [f"--{name}={value}" for name, value in shape.items()]
    subprocess.run([binary, "fixture", "--dtype=bf16", *flags, directory], check=True)
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def http_call(port: int) -> Callable[[list[str]], object]:
    """Returns a function that reranks over one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def call(documents: list[str]) -> object:
        connection.request("POST", "/v1/models/rerank", json.dumps({"query": QUERY, "documents": documents}))
        response = connection.getresponse()
        answer = json.load(response)
        if response.status != 200:
            raise SystemExit(f"status {response.status}: {answer}")
        return answer

    return call


def grpc_call(port: int) -> Callable[[list[str]], object]:
    """Returns a function that reranks over one channel; RerankRequest is encoded by hand: query = 2, documents = 3."""
    import grpc  # noqa: PLC0415 - optional

    def encode(documents: list[str]) -> bytes:
        message = b""
        for field, text in [(2, QUERY), *((3, document) for document in documents)]:
            raw, length = text.encode(), b""
            size = len(raw)
            while size > 0x7F:
                length += bytes([size & 0x7F | 0x80])
                size >>= 7
            message += bytes([field << 3 | 2]) + length + bytes([size]) + raw
        return message

    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    return channel.unary_unary("/reranker.v1.Reranker/Rerank", request_serializer=encode)


def latencies(call: Callable[[list[str]], object], warmup: int, count: int) -> list[float]:
    """Returns the milliseconds of `count` requests with one short document, in rising order."""
    times = []
    for number in range(warmup + count):
        start = time.perf_counter()
        call([DOCUMENT])
        if number >= warmup:
            times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)


def measure_latency(binary: Path, count: int) -> None:
    """Prints p50 and p99 of one short document for both protocols."""
    with tempfile.TemporaryDirectory() as directory:
        write_fixture(binary, TINY, Path(directory))
        with Server(binary, f"bench={directory}") as server:
            print(f"| one short document, {count} requests | p50 ms | p99 ms |\n| --- | ---: | ---: |")
            for name, connect in {"http": http_call, "grpc": grpc_call}.items():
                try:
                    times = latencies(connect(server.ports[name]), count // 10, count)
                except ModuleNotFoundError:
                    print(f"| {name}: skipped, grpcio is not installed | | |")
                    continue
                print(f"| {name} | {statistics.median(times):.2f} | {times[len(times) * 99 // 100]:.2f} |")


def measure_memory(binary: Path, batches: list[int]) -> None:
    """Prints the peak memory with full batches of each size against the weights."""
    with tempfile.TemporaryDirectory() as directory:
        weights = write_fixture(binary, MIDDLE, Path(directory))
        print("\n| max_batch_tokens | weights MB | ready MB | peak MB | over the weights | bound MB |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for tokens in batches:
            with Server(binary, f"bench={directory}", "--dtype=bf16", f"--max-batch-tokens={tokens}") as server:
                ready = server.memory("VmRSS")
                # More than one full batch, at 200 tokens or more a document; then one pair as long as the cut allows.
                call = http_call(server.ports["http"])
                call([f"{number} {WORDS * 12}" for number in range(tokens // 160)])
                call([(WORDS * 200)[:10_000]] * 2)
                peak = server.memory("VmHWM")
            bound = weights * 1.15 + 200e6
            figures = (weights, ready, peak, bound)
            mega = [f"{figure / 1e6:,.0f}" for figure in figures]
            print(f"| {tokens:,} | {mega[0]} | {mega[1]} | {mega[2]} | {peak / weights - 1:+.0%} | {mega[3]} |")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=Path("target/release/reranker"), help="the built `reranker`")
    parser.add_argument("--requests", type=int, default=2000, help="measured requests per protocol")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[4096, 16384], help="batch sizes for the memory")
    options = parser.parse_args()
    measure_latency(options.binary, options.requests)
    measure_memory(options.binary, options.batch_tokens)


if __name__ == "__main__":
    main()
