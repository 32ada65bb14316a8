"""Whole forwards of the 1.7B shape against `transformers`, side by side on one machine.

A random bf16 checkpoint of zerank-1-small's layers (28 unless --layers says otherwise; the demo tokenizer's
vocabulary, which no figure depends on). The engine and its peers take turns, each in a process of its own, --rounds
times; a table has the medians and the ratio to `transformers` of the same type.

- engine: `cargo bench --bench forward` of this repository; tokens are those it computed (a query once a request)
- best: `transformers` with sdpa, all pairs of the same length, and the head's product for last tokens only
- own code: as the published model's code runs it, logits of all tokens over the whole vocabulary

With tests/reference/requirements.txt installed (`make bench` does that):

    cargo build --package reranker
    python tests/bench/forward.py --binary target/debug/reranker
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

SHAPE = "--hidden 2048 --heads 16 --kv-heads 8 --head-dim 128 --intermediate 6144".split()
# Multiply-adds of the matrices, a token and layer.
LAYER_WEIGHTS = 50_331_648


def peer(checkpoint: str, dtype: str, own_code: bool, shapes: list[str]) -> None:
    """Prints a line a shape, as the engine's bench does."""
    import torch
    import transformers

    torch.set_grad_enabled(False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype={"f32": torch.float32, "bf16": torch.bfloat16}[dtype], attn_implementation="sdpa"
    ).eval()
    answer = model.get_output_embeddings().weight[1].float()
    for shape in shapes:
        pairs, tokens = map(int, shape.split("x"))
        ids = torch.randint(model.config.vocab_size, (pairs, tokens))

        def run() -> torch.Tensor:
            if own_code:
                return torch.sigmoid(model(ids, use_cache=False).logits[:, -1, 1] / 5)
            last = model.model(ids, use_cache=False).last_hidden_state[:, -1]
            return torch.sigmoid(last.float() @ answer / 5)

        run()
        start, cpu = time.perf_counter(), time.process_time()
        run()
        line = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps({"shape": shape, "tokens": pairs * tokens, **line}), flush=True)


def built() -> str:
    """Builds the engine's bench, whose arithmetic the dev profile compiles as release does; returns its path."""
    command = "cargo bench --no-run --profile dev --package reranker-engine --bench forward --message-format json"
    done = subprocess.run(command.split(), stdout=subprocess.PIPE, check=True, text=True)
    made = [json.loads(line).get("executable") for line in done.stdout.splitlines()]
    return next(path for path in made if path)


def lines(command: list[str]) -> list[dict]:
    """Runs a command and returns its lines of JSON."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="the reranker binary, which writes the checkpoint")
    parser.add_argument("--bench", type=Path, help="the engine's bench `forward`; built if it is not given")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16", "q8"])
    parser.add_argument("--shapes", nargs="+", default=["1x64", "8x64", "8x256", "2x1024"], help="PAIRSxTOKENS")
    parser.add_argument("--own-code", action="store_true", help="also the peer as the model's own code runs it")
    parser.add_argument("--peer", nargs=3, metavar=("CHECKPOINT", "DTYPE", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        checkpoint, dtype, kind = options.peer
        peer(checkpoint, dtype, kind == "own", options.shapes)
        return

    bench = options.bench or built()
    with tempfile.TemporaryDirectory() as checkpoint:
        fixture = [options.binary, "fixture", "--layers", str(options.layers), *SHAPE, checkpoint]
        subprocess.run(fixture, check=True, stdout=subprocess.DEVNULL)
        again = [sys.executable, __file__, "--shapes", *options.shapes, "--peer", checkpoint]
        runs = {("engine", dtype): [bench, checkpoint, dtype, *options.shapes] for dtype in options.dtypes}
        for dtype in set(options.dtypes) & {"f32", "bf16"} | ({"bf16"} if "q8" in options.dtypes else set()):
            runs["best", dtype] = [*again, dtype, "best"]
            if options.own_code:
                runs["own code", dtype] = [*again, dtype, "own"]
        found = defaultdict(list)
        for turn in range(options.rounds):
            for (who, dtype), command in runs.items():
                print(f"round {turn + 1} of {options.rounds}: {who}, {dtype}", file=sys.stderr)
                for line in lines(command):
                    found[who, dtype, line["shape"]].append(line)

    def median(who: str, dtype: str, shape: str, key: str) -> float | None:
        values = [line["tokens"] / line[key] for line in found[who, dtype, shape]]
        return statistics.median(values) if values else None

    print(f"{platform.machine()}, {options.layers} layers, tokens/s (scaled to 28), medians of {options.rounds} rounds")
    print("| pairs x tokens | type | who | tokens/s | GFLOP/s | of `transformers` | the same, by CPU time |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for shape in options.shapes:
        for who, dtype in runs:
            rate, by_cpu = (median(who, dtype, shape, key) for key in ("seconds", "cpu_seconds"))
            base = "bf16" if dtype == "q8" else dtype
            peers = [median("best", base, shape, key) for key in ("seconds", "cpu_seconds")]
            ratios = [f"{ours / theirs:.2f}" for ours, theirs in zip((rate, by_cpu), peers)]
            flops = 2e-9 * LAYER_WEIGHTS * options.layers * rate
            scaled = rate * options.layers / 28
            print(f"| {shape} | {dtype} | {who} | {scaled:.1f} | {flops:.0f} | {ratios[0]} | {ratios[1]} |")


if __name__ == "__main__":
    main()
