"""Measures a server under load with `reranker bench`: what it takes, what it does with twice that, and who waits.

    cargo build --release --package reranker
    python tests/bench/load.py --binary target/release/reranker

Client and server share the machine. Memory needs Linux (/proc). `--seconds 3` is a quick look.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopback import TINY, WORDS, Server, write_fixture

Report = dict[str, Any]
SHAPE = ("--documents=10", "--document-chars=500")
QUERY = "What does the quick brown fox jump over?"


class Load:
    """Runs `reranker bench` against one server."""

    def __init__(self, binary: Path, server: Server) -> None:
        self.command = [str(binary), "bench", f"--url=http://127.0.0.1:{server.ports['http']}", "--json"]

    def start(self, *flags: str) -> subprocess.Popen[str]:
        """Starts a run."""
        command = [*self.command, *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def run(self, *flags: str) -> Report:
        """Runs to the end."""
        return report(self.start(*flags))


class Memory:
    """Looks at a server's resident memory, for the time of a `with` block."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.idle = server.memory("VmRSS")
        self.samples: list[int] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self) -> None:
        """Takes a sample every half a second."""
        while not self.ended.wait(0.5):
            self.samples.append(self.server.memory("VmRSS"))

    def __enter__(self) -> "Memory":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def __str__(self) -> str:
        """Idle, then the mean of each quarter of the run, then the peak, in MB."""
        samples = self.samples or [self.idle]
        size = -(-len(samples) // 4)
        quarters = [samples[at : at + size] for at in range(0, len(samples), size)]
        means = ", ".join(f"{sum(quarter) / len(quarter) / 1e6:,.0f}" for quarter in quarters)
        peak = max(self.idle, *samples)
        return f"idle {self.idle / 1e6:,.0f}, by quarter {means}, peak +{(peak - self.idle) / 1e6:,.0f} over idle"


def report(run: subprocess.Popen[str]) -> Report:
    """Waits for a run and reads its report."""
    out, _ = run.communicate()
    return json.loads(out)


def row(name: str, figure: str) -> None:
    """Prints a row of the table."""
    print(f"| {name} | {figure} |", flush=True)


def p(report: Report, name: str, times: str = "latency_ms") -> str:
    """Formats one percentile."""
    return "-" if report[times] is None else f"{report[times][name]:,.1f} ms"


def outcomes(report: Report) -> str:
    """Formats the counts that are not 0."""
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report["requests"].items() if count)


def overload(load: Load, server: Server, seconds: float) -> None:
    """Capacity; then twice that in an open loop, and how soon a single client is served as before."""
    alone = load.run("--clients=1", "--warmup-seconds=1", f"--duration-seconds={min(seconds, 10)}", *SHAPE)
    most = ("--clients=8", "--warmup-seconds=2", f"--duration-seconds={min(seconds, 20)}", *SHAPE)
    capacity = load.run(*most)
    taken = capacity["requests_per_second"]
    row("one client: p50", p(alone, "p50"))
    row("capacity, 8 clients", f"{taken:.1f} requests/s, {capacity['tokens_per_second']:,.0f} tokens/s")
    warmup = 2.0
    with Memory(server) as memory:
        start = time.monotonic()
        flags = (f"--rate={2 * taken:.3f}", f"--warmup-seconds={warmup}", f"--duration-seconds={seconds}")
        run = load.start(*flags, *SHAPE)
        time.sleep(max(0, start + warmup + seconds - time.monotonic()))
        after = load.start("--clients=1", "--warmup-seconds=2", f"--duration-seconds={min(seconds, 5)}", *SHAPE)
        twice, after_report = report(run), report(after)
    # What the machine can do changes by as much as is to be seen.
    again = load.run(*most)["requests_per_second"]
    row(f"twice the capacity for {seconds:.0f} s", outcomes(twice))
    row("capacity again", f"{again:.1f} requests/s")
    row("answered, of the mean capacity", f"{2 * twice['requests_per_second'] / (taken + again):.1%}")
    row("answered: p50, p99", f"{p(twice, 'p50')}, {p(twice, 'p99')}")
    row("refused: p50, p99", f"{p(twice, 'p50', 'refused_latency_ms')}, {p(twice, 'p99', 'refused_latency_ms')}")
    row("memory, MB", str(memory))
    row("one client from 2 s after the end: p50", f"{p(after_report, 'p50')}; {outcomes(after_report)}")


def fairness(load: Load, seconds: float) -> None:
    """A 12 KB request that finds a 150 KB one at work, against the same alone."""
    small = ("--documents=24", "--document-chars=500", "--rate=0.5", "--warmup-seconds=2", f"--duration-seconds={seconds}")
    alone = load.run(*small)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "large.jsonl"
        documents = [f"{number} {WORDS * 7}"[:500] for number in range(300)]
        file.write_text(json.dumps({"query": QUERY, "documents": documents}) + "\n", "utf-8")
        # Sent until it is stopped, so that the small ones always find one.
        large = load.start("--clients=1", f"--file={file}", "--warmup-seconds=0", "--duration-seconds=3600")
        behind = load.run(*small)
        large.send_signal(2)
        whole = report(large)
    row("12 KB alone: p50, max", f"{p(alone, 'p50')}, {p(alone, 'max')}")
    row("12 KB behind 150 KB: p50, max", f"{p(behind, 'p50')}, {p(behind, 'max')}; {outcomes(behind)}")
    row("the 150 KB request: p50", p(whole, "p50"))


def connections(load: Load, server: Server) -> None:
    """2,000 connections with a request each."""
    with Memory(server) as memory:
        run = load.run("--clients=2000", "--requests=2000", "--warmup-seconds=0", "--documents=1", "--timeout-seconds=600")
    row("2,000 connections, a request each", f"{outcomes(run)}; p50 {p(run, 'p50')}, max {p(run, 'max')}")
    row("memory, MB", str(memory))


def queued(load: Load, server: Server) -> None:
    """10,000 documents of 2 KB at once; by the byte limit in ten requests."""
    shape = ("--documents=1000", "--document-chars=2000", "--latency=slow")
    with Memory(server) as memory:
        run = load.run("--clients=10", "--requests=10", "--warmup-seconds=0", "--timeout-seconds=3600", *shape)
    row("10,000 documents of 2 KB queued", f"{outcomes(run)}; {run['total_documents']:,} documents, max {p(run, 'max')}")
    row("memory, MB", str(memory))


# Threads that the bare engine has as well. Those of the pool are called as the thread that loads the model.
ENGINE_THREADS = ("load", "reranker-worker", "candle")


def overhead(binary: Path, profile: str, pairs: int, requests: int = 40, max_batch_tokens: int = 2048) -> None:
    """The same requests with and without the service, in pairs: what a document costs the process, and how many a second.

    CPU time is the measure: others on the machine take time from both sides, and add only what they cost in caches. The
    service's own threads and the time that the device has nothing to do are hardly touched by others. Each side runs on
    the first core and the load client, which is not counted, on the second; batches have one bound, and their fill is said.
    """
    first, second, *_ = sorted(os.sched_getaffinity(0))
    one_class = ("--max-queue-seconds=3600", "--interactive-seconds=3600")
    cpu_ratios, own_shares, rates = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "requests.jsonl"
        file.write_text("".join(json.dumps(request) + "\n" for request in shuffled(requests)), "utf-8")
        # Built before anything counts.
        row("tokenising, both cores", engine(profile, file, 0, max_batch_tokens)["tokenising"])
        for pair in range(pairs):
            # In turns, so that a load that comes or goes meets both.
            for side in ("engine", "service") if pair % 2 == 0 else ("service", "engine"):
                try:
                    os.sched_setaffinity(0, {first})
                    if side == "engine":
                        bare = engine(profile, file, requests, max_batch_tokens)
                        continue
                    with Server(binary, "demo", f"--max-batch-tokens={max_batch_tokens}", *one_class) as server:
                        os.sched_setaffinity(0, {second})
                        start, before = time.monotonic(), server.cpu()
                        flags = (f"--file={file}", f"--requests={requests}", "--warmup-seconds=0", "--timeout-seconds=600")
                        run = Load(binary, server).run("--clients=8", *flags)
                        threads, seconds = server.cpu() - before, time.monotonic() - start
                        tokens, room = (server.metric(f"reranker_batch_{name}_total") for name in ("tokens", "capacity_tokens"))
                        busy = server.metric("reranker_busy_seconds_total") / seconds
                finally:
                    os.sched_setaffinity(0, {first, second})
            cpu = max(threads.values())
            own = cpu - sum(used for name, used in threads.items() if name.startswith(ENGINE_THREADS))
            each, bare_each = cpu / run["total_documents"] * 1e3, float(bare["CPU ms per document"])
            rate, bare_rate = run["total_documents"] / seconds, float(bare["documents per second"])
            cpu_ratios.append(each / bare_each)
            own_shares.append(own / cpu)
            rates.append(rate / bare_rate)
            row("CPU a document: engine, service", f"{bare_each:.3f} ms, {each:.3f} ms: {cpu_ratios[-1] - 1:+.1%}")
            row("CPU of the service, s", ", ".join(f"{name} {used:.2f}" for name, used in threads.most_common()))
            row("documents/s: engine, service", f"{bare_rate:.1f}, {rate:.1f}: {rates[-1]:.1%}")
            row("device busy: engine, service", f"{float(bare['device busy']):.1%}, {busy:.1%}")
            row("batch fill: engine, service", f"{float(bare['batch fill']):.1%}, {tokens / room:.1%}")
    row("CPU a document with the service, over without, median", f"{statistics.median(cpu_ratios) - 1:+.1%}")
    row("CPU of the service's own threads, of all, median", f"{statistics.median(own_shares):.2%}")
    row("documents/s with the service, of without, median", f"{statistics.median(rates):.1%}")


def shuffled(requests: int) -> list[dict[str, Any]]:
    """Requests of 50 documents of 500 characters, no two documents alike."""
    words = WORDS.split()
    texts = [" ".join(random.Random(number).choices(words, k=150))[:500] for number in range(50 * requests)]
    return [{"query": QUERY, "documents": texts[at : at + 50]} for at in range(0, len(texts), 50)]


def engine(profile: str, file: Path, requests: int, max_batch_tokens: int) -> dict[str, str]:
    """Runs the requests without a service and returns what the bench says, by name."""
    command = ["cargo", "bench", "--quiet", f"--profile={profile}", "--package=reranker-engine", "--bench=throughput", "--"]
    command += [str(file), str(requests), str(max_batch_tokens)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=Path("target/release/reranker"), help="the built `reranker`")
    parser.add_argument("--seconds", type=float, default=60, help="length of the overload and of the fairness runs")
    parser.add_argument("--pairs", type=int, default=5, help="runs with and without the service")
    parser.add_argument("--profile", default="bench", help="of the engine's bench; what `--binary` is built with")
    parser.add_argument("--only", nargs="+", default=["overload", "fairness", "connections", "queued", "overhead"], help="figures")
    parser.add_argument(
        "--serve", action="append", default=[], metavar="FLAG", help="further flag of every server: --serve=--name=value"
    )
    options = parser.parse_args()
    # The last two are about the service: on a tiny checkpoint they are over within minutes.
    tiny: dict[str, Callable[[Load, Server], None]] = {"connections": connections, "queued": queued}
    print("| | |\n| --- | --- |")
    for name in options.only:
        if name == "overhead":
            overhead(options.binary, options.profile, options.pairs)
            continue
        with tempfile.TemporaryDirectory() as directory:
            model = "demo"
            if name in tiny:
                write_fixture(options.binary, TINY, Path(directory))
                model = f"bench={directory}"
            flags = list(options.serve)
            if name == "queued":
                flags.append("--max-queued-tokens=10000000")
            with Server(options.binary, model, *flags) as server:
                load = Load(options.binary, server)
                if name in tiny:
                    tiny[name](load, server)
                elif name == "overload":
                    overload(load, server, options.seconds)
                else:
                    fairness(load, options.seconds)


if __name__ == "__main__":
    main()
