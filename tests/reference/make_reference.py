"""Makes the reference scores and token ids that the engine's tests compare with.

For each checkpoint of checkpoints.json, `reranker fixture` writes random weights, and `transformers` runs the
published definition on every pair of texts.json, one pair at a time: texts cut to 2,000 and 10,000 code points, then
stripped, put into the ChatML prompt, tokenised as a whole; score = 1 / (1 + exp(-logit("Yes") / 5)) at the last token.
Once in float32 and once in bfloat16, so that the spread of the definition's own bfloat16 is known.

A text that spells an added token has two readings: `plain` (the text is text, the engine's default) and `parse` (the
spelled token becomes that token, as upstream). Each golden file holds `plain` for all pairs, `parse` where it differs.

With a virtual environment that has requirements.txt (`make bless` does all of this):

    cargo build --package reranker
    python tests/reference/make_reference.py --binary target/debug/reranker
"""

import argparse
import gzip
import json
import math
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
QWEN_TOKENIZER = HERE.parents[1] / "service/engine/tests/data/qwen3-tokenizer.json.gz"

QUERY_CHARS, DOCUMENT_CHARS, SCALE = 2_000, 10_000, 5.0
PREFIX = "<|im_start|>system\n"
MIDDLE = "<|im_end|>\n<|im_start|>user\n"
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"

# Whole prompts of the real tokenizer: short pairs of every group, at most so many of each.
QWEN_PAIRS_PER_GROUP = 5
QWEN_MAX_CHARS = 200
# Published token counts for these ids; the first six pairs of texts.json are the published examples.
QWEN_PUBLISHED_COUNTS = [38, 41, 39, 38, 21, 28]


@dataclass(frozen=True)
class Pair:
    """One query and document, as a client sends them."""

    group: str
    query: str
    document: str

    def prepared(self) -> tuple[str, str]:
        """Returns both texts cut, then stripped."""
        return self.query[:QUERY_CHARS].strip(), self.document[:DOCUMENT_CHARS].strip()

    def rendered(self) -> str:
        """Returns the whole prompt."""
        query, document = self.prepared()
        return PREFIX + query + MIDDLE + document + SUFFIX


class Encoder:
    """Encodes prompts with one tokenizer.json in both readings."""

    def __init__(self, tokenizer_json: str) -> None:
        self.parse = tokenizers.Tokenizer.from_str(tokenizer_json)
        plain = json.loads(tokenizer_json)
        self.added = [token["content"] for token in plain["added_tokens"]]
        plain["added_tokens"] = []
        self.plain = tokenizers.Tokenizer.from_str(json.dumps(plain))

    def encode(self, pair: Pair) -> tuple[list[int], list[int]]:
        """Returns the ids in the readings (plain, parse); they are equal unless a text spells an added token."""
        texts = pair.prepared()
        whole = ids(self.parse, pair.rendered())
        query, document = (ids(self.plain, text) for text in texts)
        frame = [ids(self.parse, part) for part in (PREFIX, MIDDLE, SUFFIX)]
        parts = frame[0] + query + frame[1] + document + frame[2]
        if parts != whole and not any(token in text for text in texts for token in self.added):
            sys.exit(f"the parts of {pair} do not make the whole prompt")
        return parts, whole


def ids(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    """Returns the ids of `text`, with nothing added around it."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def expand(text: str | dict[str, Any]) -> str:
    """Returns the text of one entry of texts.json; long ones are written as a repeated unit."""
    if isinstance(text, str):
        return text
    return text["repeat"] * text["times"] + text.get("then", "")


def read_pairs() -> list[Pair]:
    """Reads texts.json, in order."""
    groups = json.loads((HERE / "texts.json").read_text("utf-8"))
    return [Pair(group["group"], expand(query), expand(document)) for group in groups for query, document in group["pairs"]]


def write_fixture(binary: Path, checkpoint: dict[str, Any], directory: Path) -> None:
    """Writes one random checkpoint with the command line's `fixture`; true and false are switches."""
    arguments = []
    for key, value in checkpoint.items():
        if value is not False and key != "name":
            flag = "--" + key.replace("_", "-")
            arguments += [flag] if value is True else [flag, str(value)]
    subprocess.run([binary, "fixture", *arguments, directory], check=True)


def checksum(directory: Path) -> int:
    """Returns the CRC-32 of the weight files and the tokenizer, by name: golden scores hold for these bytes only."""
    crc = 0
    for path in sorted([*directory.glob("*.safetensors"), directory / "tokenizer.json"]):
        crc = zlib.crc32(path.read_bytes(), crc)
    return crc


def scorer(directory: Path, dtype: torch.dtype, yes: int) -> Callable[[list[int]], float]:
    """Loads the checkpoint and returns the published score as a function of one prompt's ids."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()

    def score(prompt: list[int]) -> float:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt]), use_cache=False, logits_to_keep=1).logits
        return 1.0 / (1.0 + math.exp(-logits[0, -1, yes].item() / SCALE))

    return score


def score_checkpoint(directory: Path, pairs: list[Pair]) -> dict[str, Any]:
    """Returns the golden values of one checkpoint."""
    encoder = Encoder((directory / "tokenizer.json").read_text("utf-8"))
    upstream = transformers.PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    plain, parse = zip(*map(encoder.encode, pairs), strict=True)
    for pair, whole in zip(pairs, parse, strict=True):
        if upstream(pair.rendered())["input_ids"] != whole:
            sys.exit(f"transformers encodes {pair} in another way")
    differing = [index for index in range(len(pairs)) if plain[index] != parse[index]]
    [yes] = ids(encoder.plain, "Yes")

    golden: dict[str, Any] = {"crc32": checksum(directory), "tokens": [len(prompt) for prompt in plain]}
    golden["parse"] = {"pairs": differing, "tokens": [len(parse[index]) for index in differing]}
    for name, dtype in {"f32": torch.float32, "bf16": torch.bfloat16}.items():
        score = scorer(directory, dtype, yes)
        golden[name] = [score(prompt) for prompt in plain]
        golden["parse"][name] = [score(parse[index]) for index in differing]
    golden["bf16_spread"] = max(abs(a - b) for a, b in zip(golden["f32"], golden["bf16"], strict=True))
    return golden


def qwen_ids(pairs: list[Pair]) -> dict[str, Any]:
    """Returns the ids of whole prompts with the real tokenizer, for short pairs of every group."""
    encoder = Encoder(gzip.decompress(QWEN_TOKENIZER.read_bytes()).decode("utf-8"))
    counts = [len(encoder.encode(pair)[0]) for pair in pairs[: len(QWEN_PUBLISHED_COUNTS)]]
    if counts != QWEN_PUBLISHED_COUNTS:
        sys.exit(f"token counts {counts} are not the published {QWEN_PUBLISHED_COUNTS}")
    entries, taken = [], dict.fromkeys((pair.group for pair in pairs), 0)
    for pair in pairs:
        limit = len(pairs) if pair.group in ("published", "special tokens") else QWEN_PAIRS_PER_GROUP
        if len(pair.query + pair.document) <= QWEN_MAX_CHARS and taken[pair.group] < limit:
            taken[pair.group] += 1
            plain, parse = encoder.encode(pair)
            entry = {"query": pair.query, "document": pair.document, "plain": plain}
            entries.append(entry if parse == plain else entry | {"parse": parse})
    return {"pairs": entries}


def write_golden(path: Path, golden: dict[str, Any]) -> None:
    """Writes JSON with one line per entry and floats of nine significant digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.9g}")
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        return [rounded(item) for item in value] if isinstance(value, list) else value

    def line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    entries = []
    for key, value in rounded(golden).items():
        nested = isinstance(value, list) and value and isinstance(value[0], dict)
        entries.append(f'"{key}":' + ("[\n" + ",\n".join(map(line, value)) + "\n]" if nested else line(value)))
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n", "utf-8")


def main() -> None:
    """Writes tests/golden/qwen-ids.json and tests/golden/scores-NAME.json for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=HERE.parents[1] / "target/debug/reranker", help="the built `reranker`")
    parser.add_argument("--only", metavar="NAME", help="one checkpoint, and no token ids")
    parser.add_argument("--out", type=Path, default=GOLDEN, help="where the files go (default: tests/golden)")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the same sums in the same order on every machine of one kind
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs()
    if not options.only:
        write_golden(options.out / "qwen-ids.json", qwen_ids(pairs))
    narrow = []
    for checkpoint in json.loads((HERE / "checkpoints.json").read_text("utf-8")):
        name = checkpoint["name"]
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as directory:
            write_fixture(options.binary, checkpoint, Path(directory))
            golden = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
            golden |= score_checkpoint(Path(directory), pairs)
        write_golden(options.out / f"scores-{name}.json", golden)
        low, high = min(golden["f32"]), max(golden["f32"])
        print(f"{name}: {len(pairs)} pairs, scores {low:.4f} to {high:.4f}, bf16 spread {golden['bf16_spread']:.5f}", flush=True)
        if low > 0.05 or high < 0.95:
            narrow.append(name)
    if narrow:
        sys.exit(f"scores do not spread over 0.05 to 0.95: {', '.join(narrow)}")


if __name__ == "__main__":
    main()
