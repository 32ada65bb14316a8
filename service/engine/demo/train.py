"""Makes the demo model: collects a corpus, trains the tokenizer, mines hard negatives, trains, evaluates.

Run the commands in this order, each one once:

  python train.py corpus       collect English prose from the packages of this machine
  python train.py tokenizer    train the byte-level BPE and write tokenizer.json and config.json
  python train.py negatives    take a sentence out of each paragraph and find BM25's hard negatives for it
  python train.py train        train and write model.safetensors
  python train.py evaluate     print the mean reciprocal rank of the model and of BM25, and the two examples

Needs torch, tokenizers, safetensors and numpy.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.multiprocessing
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, distributed

import corpus
import tokens
from batches import Batch, Group, Source, batch_of, evaluation_group, question
from initial import cooccurrence_vectors, initialise
from lexical import Bm25, Cloze, cut_sentence, reciprocal_rank
from model import Config, Reranker
from templates import generate

HERE = Path(__file__).resolve().parent
HELD_OUT_QUERIES, DEVELOPMENT_QUERIES, HELD_OUT_NEGATIVES, MINED = 2000, 300, 15, 24
TEMPERATURE = 2.0
EXAMPLES = (
    ("What is 2+2?", ["4", "The answer is definitely 1 million."]),
    ("Which planet is known as the Red Planet?", [
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    ]),
)


def say(text: str) -> None:
    """Prints a line with the time of day, at once."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def read_corpus(work: Path) -> Iterator[dict[str, str]]:
    """Yields the corpus's rows."""
    with (work / "corpus.jsonl").open() as file:
        for line in file:
            yield json.loads(line)


def read_pairs(work: Path, held_out: bool) -> list[Cloze]:
    """Takes a sentence out of each paragraph of one side of the corpus."""
    pairs = (cut_sentence(r["text"], r["package"]) for r in read_corpus(work) if corpus.is_held_out(r["package"]) == held_out)
    return [p for p in pairs if p]


# --- Commands --------------------------------------------------------------------------------------------------------

def make_tokenizer(work: Path, out: Path, seed: int) -> None:
    """Trains the tokenizer on the corpus and on generated questions."""
    rng = Random(seed)
    examples = [generate(rng) for _ in range(12_000)]
    texts = [r["text"] for r in read_corpus(work)]
    texts += [t for e in examples for t in (e.query, e.positive, *e.negatives)]
    tokens.train_tokenizer(texts, out / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    Config().save(out / "config.json", tokenizer.token_to_id("<|endoftext|>"))
    say(f"tokenizer of {tokenizer.get_vocab_size()} tokens written")


_index: Bm25 | None = None
_pairs: list[Cloze] = []


def mine_one(at: int) -> list[int]:
    """Finds a training query's hard negatives (in a worker process that inherited the index)."""
    assert _index is not None
    return _index.best(_pairs[at].query, MINED, at, commonest=0.1)


def mine(work: Path, out: Path, seed: int) -> None:
    """Writes `negatives.npy`, `[training queries, MINED]`, and `meaning.npy`, the vectors that the tokens start with."""
    global _index, _pairs
    _pairs = read_pairs(work, held_out=False)
    _index = Bm25([p.document for p in _pairs])
    say(f"mining for {len(_pairs)} queries")
    with Pool(2) as pool:
        found = pool.map(mine_one, range(len(_pairs)), chunksize=200)
    np.save(work / "negatives.npy", np.array(found, np.int32))
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    encoded = tokenizer.encode_batch([f"{p.document}\n{p.query}" for p in _pairs], add_special_tokens=False)
    np.save(work / "meaning.npy", cooccurrence_vectors([e.ids for e in encoded], tokenizer.get_vocab_size(), seed).numpy())
    say("negatives and co-occurrence vectors written")


def rarity_of(documents: list[list[int]], vocabulary: int, framing: list[int]) -> Tensor:
    """Gives each token's inverse document frequency, scaled to 0..1; 0 for the tokens of the frame."""
    frequency = np.zeros(vocabulary)
    for ids in documents:
        frequency[list(set(ids))] += 1
    frequency[framing] = len(documents)
    n = len(documents)
    return torch.from_numpy(np.clip(np.log((n + 1) / (frequency + 1)) / math.log(n + 1), 0, 1)).float()


def optimizer_of(model: Reranker, rate: float) -> torch.optim.AdamW:
    """Decays matrices only."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or "embed" in n]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-9)


def loss_of(groups: list[Tensor]) -> Tensor:
    """Softmax over each query's documents, and lightly whether each one fits, so that scores fall on both sides of a half."""
    total = torch.zeros(())
    for logits in groups:
        z = logits / TEMPERATURE
        fits = torch.zeros_like(z)
        fits[0] = 1.0
        weight = torch.where(fits > 0, 3.0, 1.0) / len(z)
        total = total - F.log_softmax(z, 0)[0] + 0.15 * F.binary_cross_entropy_with_logits(z, fits, weight, reduction="sum")
    return total / len(groups)


def forward(model: Reranker, batch: Batch, yes: int) -> list[Tensor]:
    """Scores a batch in bf16; returns logits a group."""
    with torch.autocast("cpu", torch.bfloat16):
        return batch.split(model(batch.prefix, batch.prefix_len, batch.chunks, yes))


def learning_rate(step: int, part: float, peak: float) -> float:
    """Warms up over 50 steps, then falls along a cosine to a fiftieth."""
    if step < 50:
        return peak * (step + 1) / 50
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))


def average(model: Reranker, loss: Tensor, clock: float) -> tuple[float, float]:
    """Averages gradients, loss and clock over the worker processes; returns loss and clock."""
    parameters = list(model.parameters())
    flat = torch.cat([torch.stack([loss.detach(), torch.tensor(clock)]), *(p.grad.flatten() for p in parameters if p.grad is not None)])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    at = 2
    for p in parameters:
        p.grad = flat[at:at + p.numel()].view_as(p)
        at += p.numel()
    return float(flat[0]), float(flat[1])


def train(worker: int, args: argparse.Namespace, meeting: str) -> None:
    """Trains from the start values, one single-threaded process a core; the first one evaluates and writes the model."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=worker, world_size=args.workers, timeout=timedelta(hours=1))
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    config = Config()
    source = Source(tokenizer, read_pairs(args.work, held_out=False), np.load(args.work / "negatives.npy"), args.seed + worker)
    frame = source.frame
    model = Reranker(config)
    rarity = rarity_of(source.documents, config.vocab_size, [*frame.prefix, *frame.middle, *frame.suffix])
    meaning = torch.from_numpy(np.load(args.work / "meaning.npy"))
    initialise(model, rarity, meaning, end_of_message=frame.middle[0], newline=frame.middle[1], yes=frame.yes, seed=args.seed)
    held_out = held_out_groups(args.work, tokenizer)[HELD_OUT_QUERIES:] if worker == 0 else []
    optimizer = optimizer_of(model, args.rate)
    if worker == 0:
        size = sum(p.numel() for p in model.parameters())
        say(f"{size} parameters, {len(source.pairs)} training pairs; start: {report(model, held_out, tokenizer)}")
    begin, clock, losses = time.monotonic(), 0.0, []
    for step in range(args.steps):
        part = max(step / args.steps, clock / (60 * args.minutes))
        if part >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, part, args.rate)
        groups = [source.text_group(args.negatives, min(0.75, 0.2 + 2 * part), 64 if part < 0.1 else 128)
                  for _ in range(args.queries // args.workers)]
        groups += [source.question_group() for _ in range(args.questions // args.workers)]
        optimizer.zero_grad()
        loss = loss_of(forward(model, batch_of(groups, frame, 5), frame.yes))
        loss.backward()
        loss_mean, clock = average(model, loss, time.monotonic() - begin)
        losses.append(loss_mean)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if worker == 0 and (step + 1) % 50 == 0:
            say(f"step {step + 1} loss {np.mean(losses[-50:]):.3f} {(time.monotonic() - begin) / (step + 1):.2f} s/step, {part:.1%} done")
        if worker == 0 and (step + 1) % args.every == 0:
            say(f"step {step + 1}: {report(model, held_out, tokenizer)}")
            model.save(args.out / "model.safetensors")
    if worker == 0:
        say(f"end: {report(model, held_out, tokenizer)}")
        model.save(args.out / "model.safetensors")
        say(f"{len(losses)} steps in {(time.monotonic() - begin) / 60:.1f} minutes")
    distributed.destroy_process_group()


# --- Evaluation ------------------------------------------------------------------------------------------------------

def held_out_queries(work: Path) -> tuple[list[Cloze], list[tuple[int, list[int]]], Bm25]:
    """Draws held-out queries with BM25's best wrong documents; those after HELD_OUT_QUERIES are for development."""
    pairs = read_pairs(work, held_out=True)
    if len(pairs) < HELD_OUT_QUERIES + DEVELOPMENT_QUERIES:
        raise SystemExit(f"{len(pairs)} held-out paragraphs, {HELD_OUT_QUERIES + DEVELOPMENT_QUERIES} needed: install more packages")
    index = Bm25([p.document for p in pairs])
    chosen = Random(1).sample(range(len(pairs)), HELD_OUT_QUERIES + DEVELOPMENT_QUERIES)
    return pairs, [(at, index.best(pairs[at].query, HELD_OUT_NEGATIVES, at)) for at in chosen], index


def held_out_groups(work: Path, tokenizer: Tokenizer) -> list[Group]:
    """Encodes the held-out queries, each with its own document first."""
    pairs, chosen, _ = held_out_queries(work)
    return [evaluation_group(tokenizer, pairs[at].query, [pairs[i].document for i in (at, *others)]) for at, others in chosen]


@torch.no_grad()
def scores_of(model: Reranker, groups: list[Group], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Scores groups; returns logits."""
    frame = tokens.frame_of(tokenizer)
    found: list[np.ndarray] = []
    for i in range(0, len(groups), 16):
        found += [g.float().numpy() for g in forward(model, batch_of(groups[i:i + 16], frame, 6), frame.yes)]
    return found


def report(model: Reranker, groups: list[Group], tokenizer: Tokenizer) -> str:
    """Says in one line how well the model ranks held-out text, generated questions and the two examples."""
    text = np.mean([reciprocal_rank(s) for s in scores_of(model, groups, tokenizer)])
    rng = Random(2)
    questions = [question(generate(rng), tokenizer) for _ in range(200)]
    right = np.mean([s.argmax() == 0 for s in scores_of(model, questions, tokenizer)])
    shown = scores_of(model, [evaluation_group(tokenizer, q, d) for q, d in EXAMPLES], tokenizer)
    sigmoid = "; ".join(" ".join(f"{1 / (1 + math.exp(-x / 5)):.3f}" for x in s) for s in shown)
    return f"reciprocal rank {text:.4f} of {len(groups)}, questions right {right:.3f}, examples {sigmoid}"


def evaluate(args: argparse.Namespace) -> None:
    """Prints the figures of the model card."""
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    model = Reranker.load(args.out / "model.safetensors", Config())
    pairs, chosen, index = held_out_queries(args.work)
    chosen = chosen[:HELD_OUT_QUERIES]
    rng = Random(3)
    sets = {
        "hard negatives": chosen,
        "random negatives": [(at, rng.sample([i for i in range(len(pairs)) if i != at], HELD_OUT_NEGATIVES)) for at, _ in chosen],
    }
    for name, rows in sets.items():
        groups = [evaluation_group(tokenizer, pairs[at].query, [pairs[i].document for i in (at, *others)]) for at, others in rows]
        ours = np.mean([reciprocal_rank(s) for s in scores_of(model, groups, tokenizer)])
        theirs = np.mean([reciprocal_rank(index.scores(pairs[at].query)[[at, *others]]) for at, others in rows])
        say(f"{len(rows)} queries, {HELD_OUT_NEGATIVES} {name}: mean reciprocal rank {ours:.4f}, BM25 {theirs:.4f}")
    say(report(model, groups[:100], tokenizer))


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("corpus", "tokenizer", "negatives", "train", "evaluate"))
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/reranker/demo", help="folder for corpus and mined pairs")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of config.json, tokenizer.json and model.safetensors")
    parser.add_argument("--extra", action="append", default=[], help="corpus: one more folder of packages under a permissive licence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=80, help="train: end by then, even with fewer steps; the rate falls accordingly")
    parser.add_argument("--workers", type=int, default=2, help="train: single-threaded processes")
    parser.add_argument("--queries", type=int, default=16, help="train: cloze queries a step")
    parser.add_argument("--questions", type=int, default=6, help="train: generated questions a step")
    parser.add_argument("--negatives", type=int, default=7, help="train: wrong documents a query")
    parser.add_argument("--rate", type=float, default=5e-4, help="train: peak learning rate")
    parser.add_argument("--every", type=int, default=100, help="train: steps between evaluations")
    args = parser.parse_args()
    torch.set_num_threads(2)
    args.work.mkdir(parents=True, exist_ok=True)
    match args.command:
        case "corpus":
            corpus.collect(args.work / "corpus.jsonl", args.extra)
        case "tokenizer":
            make_tokenizer(args.work, args.out, args.seed)
        case "negatives":
            mine(args.work, args.out, args.seed)
        case "train":
            with tempfile.TemporaryDirectory() as folder:
                torch.multiprocessing.spawn(train, (args, f"file://{folder}/meeting"), nprocs=args.workers)
        case "evaluate":
            evaluate(args)


if __name__ == "__main__":
    main()
