"""Training and evaluation batches.

Owns: which negatives stand beside a positive, token ids, chunks of documents of like length.

Data flow: mined cloze pairs and generated questions -> `Group`s of one query with its documents -> padded `Batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from corpus import STOP_WORDS
from lexical import Cloze
from model import Chunk
from templates import Example, generate
from tokens import Frame, frame_of

MAX_QUERY_TOKENS, MAX_DOCUMENT_TOKENS, MAX_LONG_TOKENS = 48, 128, 256


@dataclass(frozen=True)
class Group:
    """A query's ids and those of its documents, the right one first."""

    query: list[int]
    documents: list[list[int]]


@dataclass(frozen=True)
class Batch:
    """Groups as tensors; `place` says for each chunk's row which entry of the flat score list it is."""

    prefix: Tensor
    prefix_len: Tensor
    chunks: list[Chunk]
    place: Tensor
    sizes: list[int]

    def split(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Puts the chunks' logits back into one tensor a group."""
        flat = torch.cat(list(logits))
        return list(torch.zeros_like(flat).index_put((self.place,), flat).split(self.sizes))


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Pads rows on the right with 0; returns ids and lengths."""
    length = [len(r) for r in rows]
    out = np.zeros((len(rows), max(length)), np.int64)
    for i, row in enumerate(rows):
        out[i, :len(row)] = row
    return torch.from_numpy(out), torch.tensor(length)


def batch_of(groups: list[Group], frame: Frame, chunks: int) -> Batch:
    """Frames and pads groups, their documents sorted by length into `chunks` parts."""
    prefix, prefix_len = padded([[*frame.prefix, *g.query, *frame.middle] for g in groups])
    flat = [(owner, d) for owner, g in enumerate(groups) for d in g.documents]
    order = sorted(range(len(flat)), key=lambda i: len(flat[i][1]))
    parts = []
    for part in np.array_split(np.array(order), chunks):
        ids, length = padded([[*flat[i][1], *frame.suffix] for i in part])
        parts.append(Chunk(torch.tensor([flat[i][0] for i in part]), ids, length))
    return Batch(prefix, prefix_len, parts, torch.tensor(order), [len(g.documents) for g in groups])


class Source:
    """Draws groups from mined pairs and generated questions."""

    def __init__(self, tokenizer: Tokenizer, pairs: list[Cloze], negatives: np.ndarray, seed: int) -> None:
        self.tokenizer, self.frame = tokenizer, frame_of(tokenizer)
        self.pairs, self.negatives = pairs, negatives
        self.rng = Random(seed)
        self.queries = self.ids([p.query for p in pairs])
        self.documents = self.ids([p.document for p in pairs])
        self.order: list[int] = []

    def ids(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def text_group(self, count: int, hard: float, limit: int) -> Group:
        """Draws the next pair with `count` negatives, each mined with probability `hard`, documents cut to `limit` tokens."""
        if not self.order:
            self.order = list(range(len(self.pairs)))
            self.rng.shuffle(self.order)
        at = self.order.pop()
        mined = self.rng.sample(self.negatives[at].tolist(), count)
        chosen = [m if self.rng.random() < hard else self.rng.randrange(len(self.pairs)) for m in mined]
        documents = [self.documents[at], *(self.documents[c] for c in chosen if c != at)]
        query = self.queries[at]
        draw = self.rng.random()
        if draw < 0.1:
            kept = [w for w in self.pairs[at].query.rstrip(".").split() if w.lower() not in STOP_WORDS]
            query = self.ids([" ".join(kept)])[0] if len(kept) > 2 else query
        elif draw < 0.115:
            limit = MAX_LONG_TOKENS
            documents = [self.lengthened(d) for d in documents]
        return Group(query[:MAX_QUERY_TOKENS], [d[:limit] for d in documents])

    def lengthened(self, document: list[int]) -> list[int]:
        """Puts one to three other documents before or behind."""
        others = [self.documents[self.rng.randrange(len(self.pairs))] for _ in range(self.rng.randint(1, 3))]
        place = self.rng.randint(0, len(others))
        parts = [*others[:place], document, *others[place:]]
        start = sum(len(p) for p in parts[:place])
        joined = [token for p in parts for token in p]
        return joined if start + len(document) <= MAX_LONG_TOKENS else joined[start:]

    def question_group(self) -> Group:
        """Draws a generated question; now and then one wrong answer is a stray document."""
        example = generate(self.rng)
        group = question(example, self.tokenizer)
        if self.rng.random() < 0.4:
            group.documents[-1] = self.documents[self.rng.randrange(len(self.pairs))][:MAX_DOCUMENT_TOKENS]
        return group


def question(example: Example, tokenizer: Tokenizer) -> Group:
    """Encodes a generated question."""
    query, *documents = (e.ids for e in tokenizer.encode_batch([example.query, example.positive, *example.negatives], add_special_tokens=False))
    return Group(query, documents)


def evaluation_group(tokenizer: Tokenizer, query: str, documents: list[str]) -> Group:
    """Encodes a query and its documents uncut."""
    first, *rest = (e.ids for e in tokenizer.encode_batch([query, *documents], add_special_tokens=False))
    return Group(first, rest)
