"""The demo model's tokenizer and prompt frame.

Owns: the byte-level BPE (NFC, Qwen's split pattern, single digits, ChatML tokens) and the frame around query and document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

VOCAB_SIZE = 8192
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WHOLE_WORDS = ("Yes", "system", "user", "assistant")
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


@dataclass(frozen=True)
class Frame:
    """Token ids around a pair: prefix + query + middle + document + suffix, and the id whose logit is the score."""

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    yes: int


def train_tokenizer(texts: Iterable[str], destination: Path) -> None:
    """Trains the BPE on `texts` and writes `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL), show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))

    def with_whole_words() -> Iterable[str]:
        for word in WHOLE_WORDS:
            yield "\n".join([word] * 20_000)
        yield from texts

    tokenizer.train_from_iterator(with_whole_words(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.save(str(destination))
    check(destination)


def frame_of(tokenizer: Tokenizer) -> Frame:
    """Encodes the parts of the prompt around query and document."""
    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return Frame(
        prefix=ids("<|im_start|>system\n"),
        middle=ids("<|im_end|>\n<|im_start|>user\n"),
        suffix=ids("<|im_end|>\n<|im_start|>assistant\n"),
        yes=ids("Yes")[0],
    )


def check(path: Path) -> None:
    """Verifies the vocabulary's size, the single-token words and that the prompt splits at its parts."""
    tokenizer = Tokenizer.from_file(str(path))
    content = json.loads(path.read_text())
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    assert all(t["special"] for t in content["added_tokens"]) and len(content["added_tokens"]) == len(SPECIAL)
    for word in (*WHOLE_WORDS, "\n", *SPECIAL, *"0123456789"):
        assert len(tokenizer.encode(word).ids) == 1, word
    frame = frame_of(tokenizer)
    assert (len(frame.prefix), len(frame.middle), len(frame.suffix)) == (3, 5, 5)
    for query, document in (("What is 2+2?", "4"), ("", ""), ("e\u0301!", "\u0301 12.5 ..."), ("a\n\nb :", "'s (x)\n\ty")):
        whole = f"<|im_start|>system\n{query}<|im_end|>\n<|im_start|>user\n{document}<|im_end|>\n<|im_start|>assistant\n"
        parts = [*frame.prefix, *tokenizer.encode(query).ids, *frame.middle, *tokenizer.encode(document).ids, *frame.suffix]
        assert tokenizer.encode(whole).ids == parts, (query, document)
