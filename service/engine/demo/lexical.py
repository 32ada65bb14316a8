"""Inverse cloze and BM25.

Owns: taking one sentence out of each paragraph, BM25 over what is left, the hard negatives it finds.

Data flow: paragraphs -> (query sentence, document without it) -> ids of the documents that BM25 puts first for each query.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from corpus import split_sentences

BOILERPLATE = re.compile(r"^(for more information|see |note that this|for example|this is |default)|\bsee also\b", re.IGNORECASE)
WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Cloze:
    """A sentence and the paragraph it was taken out of."""

    query: str
    document: str
    package: str


def cut_sentence(text: str, package: str) -> Cloze | None:
    """Takes one sentence of 6 to 30 words out of a paragraph, chosen by a hash of the text; None where none fits."""
    sentences = split_sentences(text)
    fitting = []
    for i, sentence in enumerate(sentences):
        rest = " ".join(s for j, s in enumerate(sentences) if j != i)
        if 6 <= len(sentence.split()) <= 30 and len(rest.split()) >= 20 and sentence not in rest and not BOILERPLATE.search(sentence):
            fitting.append((sentence, rest))
    if not fitting:
        return None
    query, rest = fitting[zlib.crc32(text.encode()) % len(fitting)]
    return Cloze(query, rest, package)


def words(text: str) -> list[str]:
    """Splits a text into lower-case words and numbers."""
    return WORD.findall(text.lower())


class Bm25:
    """BM25 over a fixed set of documents (k1 = 1.2, b = 0.75, Lucene's idf)."""

    def __init__(self, documents: list[str], k1: float = 1.2, b: float = 0.75) -> None:
        postings: dict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (array("i"), array("H")))
        lengths = np.zeros(len(documents), np.float32)
        for i, document in enumerate(documents):
            counts = Counter(words(document))
            lengths[i] = sum(counts.values())
            for term, count in counts.items():
                rows, frequencies = postings[term]
                rows.append(i)
                frequencies.append(count)
        norm = k1 * (1 - b + b * lengths / lengths.mean())
        self.size = len(documents)
        self.weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for term, (rows, frequencies) in postings.items():
            r, f = np.array(rows), np.array(frequencies, np.float32)
            idf = np.log(1 + (self.size - len(r) + 0.5) / (len(r) + 0.5))
            self.weights[term] = (r, (idf * f * (k1 + 1) / (f + norm[r])).astype(np.float32))

    def scores(self, query: str, commonest: float = 1.0) -> np.ndarray:
        """Scores every document; terms in more than the share `commonest` of them are left out."""
        total = np.zeros(self.size, np.float32)
        for term, times in Counter(words(query)).items():
            rows, weights = self.weights.get(term, (None, None))
            if rows is not None and len(rows) <= commonest * self.size:
                total[rows] += weights * times
        return total

    def best(self, query: str, count: int, without: int, commonest: float = 1.0) -> list[int]:
        """Returns the `count` documents with the highest scores, best first, leaving out one."""
        scores = self.scores(query, commonest)
        scores[without] = -1.0
        top = np.argpartition(-scores, count)[:count]
        return top[np.argsort(-scores[top], kind="stable")].tolist()


def reciprocal_rank(scores: np.ndarray, at: int = 0) -> float:
    """Returns 1 / rank of the entry `at`; ties count half."""
    better = float((scores > scores[at]).sum()) + 0.5 * float((scores == scores[at]).sum() - 1)
    return 1.0 / (1.0 + better)
