"""Collects English prose under permissive licences from the packages that a developer's machine has.

Owns: where prose is found, which licences count, what a clean paragraph is, near-duplicate removal, the split into
training and held-out packages. Knows nothing of tokens or models.

Data flow: package folders -> raw comment blocks -> paragraphs of 32 to 90 words -> `corpus.jsonl`, one
`{"package", "kind", "text"}` a line.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

MIN_WORDS, TARGET_WORDS, MAX_WORDS = 32, 50, 90
MAX_PER_PACKAGE = 2500
MAX_FILE_BYTES = 1_500_000

PERMISSIVE = re.compile(
    r"\b(mit|expat|apache|bsd|isc|x11|zlib|unlicense|0bsd|psf|python[- ]software|python-2\.0|boost|bsl-1|cc0|public[- ]domain"
    r"|unicode|ncurses|mit-x|curl)", re.IGNORECASE)
COPYLEFT = re.compile(r"gpl|gfdl|mozilla|mpl|copyleft|cc-by|cddl|artistic|epl|eupl", re.IGNORECASE)
REJECT = re.compile(
    r"copyright|licen[sc]e|all rights reserved|warrant(y|ies)|generated (by|from|file)|auto-?generated|do not edit"
    r"|without limitation|redistribut", re.IGNORECASE)
STOP_WORDS = frozenset(
    "the a an of to in is are be for and or that this it with as by on from if not can will which when at has have was".split())
ABBREVIATION = re.compile(r"(\b(e\.g|i\.e|etc|vs|cf|resp|approx|fig|eq|no|st|dr|mr|ms|al)\.|\b[A-Z]\.)$", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?][\"')\]`]*\s+(?=[A-Z`\"'(])")


@dataclass(frozen=True)
class Unit:
    """One package to read: its kind decides which files are opened and how."""

    kind: str
    package: str
    folder: str


def split_sentences(text: str) -> list[str]:
    """Splits a paragraph at full stops followed by a capital, sparing common abbreviations."""
    sentences: list[str] = []
    start = 0
    for match in SENTENCE_END.finditer(text):
        piece = text[start:match.end()].strip()
        if ABBREVIATION.search(piece):
            continue
        sentences.append(piece)
        start = match.end()
    tail = text[start:].strip()
    return [*sentences, tail] if tail else sentences


def is_permissive(licence: str) -> bool:
    """Tells whether a licence text or expression names a permissive licence, copyleft ones only beside `OR`."""
    if COPYLEFT.search(licence) and " or " not in licence.lower():
        return False
    return bool(PERMISSIVE.search(licence))


# --- Raw blocks of each kind of file ---------------------------------------------------------------------------------

def rust_blocks(source: str) -> Iterator[str]:
    """Yields the doc comments of a Rust file as Markdown."""
    block: list[str] = []
    for line in source.split("\n"):
        stripped = line.strip()
        if stripped.startswith(("///", "//!")) and not stripped.startswith("////"):
            block.append(stripped[3:].removeprefix(" "))
        elif block:
            yield "\n".join(block)
            block = []


def slash_blocks(source: str) -> Iterator[str]:
    """Yields runs of `//` comments and `/** */` comments (Go, TypeScript, C headers)."""
    block: list[str] = []
    for line in source.split("\n"):
        stripped = line.strip()
        if stripped.startswith("//"):
            block.append(stripped.lstrip("/").removeprefix(" "))
        elif block:
            yield "\n".join(block)
            block = []
    for match in re.finditer(r"/\*\*?(.*?)\*/", source, re.DOTALL):
        yield "\n".join(re.sub(r"^\s*\*? ?", "", line) for line in match.group(1).split("\n"))


def python_blocks(source: str) -> Iterator[str]:
    """Yields triple-quoted strings, dedented."""
    for match in re.finditer(r'[rR]?("""|\'\'\')(.*?)\1', source, re.DOTALL):
        lines = match.group(2).split("\n")
        margin = min((len(x) - len(x.lstrip()) for x in lines[1:] if x.strip()), default=0)
        yield "\n".join([lines[0].strip(), *(x[margin:] for x in lines[1:])])


def html_blocks(source: str) -> Iterator[str]:
    """Yields the text of an HTML page's `<p>` elements, one page as one block."""
    parts = re.findall(r"<p\b[^>]*>(.*?)</p>", source, re.DOTALL)
    if parts:
        yield "\n\n".join(html.unescape(re.sub(r"<[^>]+>", "", part)) for part in parts)


def roff_blocks(source: str) -> Iterator[str]:
    """Yields a manual page's text with its roff requests removed."""
    out: list[str] = []
    for line in source.split("\n"):
        if line.startswith((".SH", ".SS", ".PP", ".P", ".LP", ".TP", ".IP", ".sp", ".Pp", ".Sh", ".It", ".nf", ".fi")):
            out.append("")
        elif line.startswith((".B", ".I", ".BR", ".RB", ".BI", ".IR", ".RI")):
            out.append(re.sub(r"^\.\w+ ?", "", line).replace('"', ""))
        elif not line.startswith((".", "'")):
            out.append(line)
    text = "\n".join(out)
    text = re.sub(r"\\f(\[\w*\]|\(\w\w|.)|\\[&:,^|/%]|\\s[-+]?\d", "", text)
    for escape, plain in ((r"\-", "-"), (r"\(aq", "'"), (r"\(dq", '"'), (r"\(em", " - "), (r"\(en", "-"), (r"\(lq", '"'),
                          (r"\(rq", '"'), (r"\(bu", "*"), (r"\e", "\\"), (r"\ ", " "), (r"\(co", "(c)"), (r"\'", "'")):
        text = text.replace(escape, plain)
    yield text


def aws_blocks(source: str) -> Iterator[str]:
    """Yields the documentation strings of a service description (JSON)."""
    for match in re.finditer(r'"documentation":\s*("(?:[^"\\]|\\.)*")', source):
        text = str(ast.literal_eval(match.group(1))) if "\\u" not in match.group(1) else json.loads(match.group(1))
        yield html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</p>|</li>", "\n\n", text)))


READERS = {
    ".rs": rust_blocks, ".go": slash_blocks, ".ts": slash_blocks, ".h": slash_blocks, ".hpp": slash_blocks, ".js": slash_blocks,
    ".py": python_blocks, ".pyi": python_blocks, ".html": html_blocks, ".md": lambda s: iter([s]), ".rst": lambda s: iter([s]),
    ".json.gz": aws_blocks,
}
SUFFIXES = {
    "rust crate": (".rs", ".md"), "rust book": (".html",), "go": (".go", ".md"), "python": (".py", ".pyi", ".rst", ".md", ".h"),
    "node": (".md", ".ts"), "manual page": (), "aws": (".json.gz",),
}


# --- Paragraphs ------------------------------------------------------------------------------------------------------

def prose_pieces(block: str) -> Iterator[str]:
    """Yields a block's paragraphs without code, headings, tables and markup."""
    block = re.sub(r"(```|~~~).*?(\1|\Z)", "\n\n", block, flags=re.DOTALL)
    block = re.sub(r"<!--.*?-->|<[a-zA-Z/][^>\n]{0,200}>", "", block, flags=re.DOTALL)
    current: list[str] = []
    for line in [*block.split("\n"), ""]:
        stripped = line.strip()
        bullet = re.match(r"(?:[-*+]|\d+[.)])\s+", stripped)
        if bullet or not stripped:
            if current:
                yield " ".join(current)
            current = [stripped[bullet.end():]] if bullet else []
        elif stripped.startswith(("#", "|", ">>>", "...", "..", "@", "![", "[!", "===", "---", ":param", "$ ", "+-")):
            if current:
                yield " ".join(current)
            current = []
        elif line.startswith(("        ", "\t\t")) and not current:
            continue
        else:
            current.append(stripped)


def clean(piece: str) -> str:
    """Removes link targets, reST roles, doubled back quotes and emphasis marks."""
    piece = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?", r"\1", piece)
    piece = re.sub(r":[a-z:]+:`~?([^`<]*?)(\s*<[^>]*>)?`", r"\1", piece)
    piece = re.sub(r"`+([^`]*)`+_*", r"`\1`", piece)
    piece = re.sub(r"(?<!\w)[*_]{1,3}([^*_]+)[*_]{1,3}(?!\w)", r"\1", piece)
    return re.sub(r"\s+", " ", piece).strip()


def is_prose(text: str) -> bool:
    """Tells whether a piece reads as English sentences rather than code, tables or legal text."""
    words = text.split()
    if len(words) < 6 or len(text) > 12 * len(words) or REJECT.search(text) or "http" in text and len(words) < 15:
        return False
    letters = sum(c.isalpha() or c == " " for c in text)
    plain = sum(ord(c) < 128 for c in text)
    stops = sum(w.lower() in STOP_WORDS for w in words)
    return letters > 0.84 * len(text) and plain > 0.97 * len(text) and stops >= 0.18 * len(words) and text[0].isalnum() | (text[0] == "`")


def paragraphs(block: str) -> Iterator[str]:
    """Joins a block's neighbouring pieces to paragraphs of MIN_WORDS to MAX_WORDS words and at least two sentences."""
    sentences: list[str] = []
    words = 0
    for piece in (clean(p) for p in prose_pieces(block)):
        if not is_prose(piece) or piece[-1] not in ".!?:`)":
            continue
        for sentence in split_sentences(piece):
            count = len(sentence.split())
            if count > 45:
                continue
            if words + count > MAX_WORDS or words >= TARGET_WORDS and sentence == sentence.split(". ")[0] and words + count > 70:
                if words >= MIN_WORDS and len(sentences) > 1:
                    yield " ".join(sentences)
                sentences, words = [], 0
            sentences.append(sentence)
            words += count
        if words >= TARGET_WORDS:
            if len(sentences) > 1:
                yield " ".join(sentences)
            sentences, words = [], 0
    if words >= MIN_WORDS and len(sentences) > 1:
        yield " ".join(sentences)


def read_unit(unit: Unit) -> list[str]:
    """Reads every paragraph of one package, at most MAX_PER_PACKAGE."""
    found: list[str] = []
    seen: set[int] = set()
    for path in unit_files(unit):
        try:
            raw = path.read_bytes()
        except OSError:
            continue
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        elif len(raw) > MAX_FILE_BYTES:
            continue
        text = raw.decode("utf-8", "replace")
        suffix = ".json.gz" if path.name.endswith(".json.gz") else path.suffix
        reader = roff_blocks if unit.kind == "manual page" else READERS[suffix]
        for block in reader(text):
            for paragraph in paragraphs(block) if len(block) > 120 else ():
                key = zlib.crc32(paragraph.encode())
                if key not in seen:
                    seen.add(key)
                    found.append(paragraph)
    if len(found) > MAX_PER_PACKAGE:
        found.sort(key=lambda p: hashlib.sha1(p.encode()).digest())
        found = found[:MAX_PER_PACKAGE]
    return found


def unit_files(unit: Unit) -> list[Path]:
    """Lists the files of a package in a stable order."""
    if unit.kind == "manual page":
        return [Path(f) for f in unit.folder.split("\n")]
    root = Path(unit.folder)
    if root.is_file():
        return [root]
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(d for d in folders if d not in ("testdata", "tests", "node_modules", ".git", "__pycache__"))
        files += [Path(folder, n) for n in sorted(names) if n.endswith(SUFFIXES[unit.kind])]
    return files


# --- Where packages stand --------------------------------------------------------------------------------------------

def rust_units() -> Iterator[Unit]:
    """Finds crates in the registry's source folder (licence from Cargo.toml) and the books of the toolchain."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    latest: dict[str, Path] = {}
    for folder in sorted(home.glob("registry/src/*/*")):
        latest[re.sub(r"-\d+\.\d.*$", "", folder.name)] = folder
    for name, folder in latest.items():
        manifest = (folder / "Cargo.toml").read_text(errors="replace") if (folder / "Cargo.toml").exists() else ""
        licence = re.search(r'^license\s*=\s*"([^"]*)"', manifest, re.MULTILINE)
        if licence and is_permissive(licence.group(1).replace("/", " OR ")):
            yield Unit("rust crate", f"rust/{name}", str(folder))
    sysroot = output("rustc", "--print", "sysroot")
    for folder in sorted(Path(sysroot, "share/doc/rust/html").glob("*")) if sysroot else ():
        if folder.is_dir() and folder.name not in ("src", "static.files", "search.index", "search.desc", "proc_macro", "test"):
            yield Unit("rust book", f"rust-doc/{folder.name}", str(folder))


def go_units() -> Iterator[Unit]:
    """Finds the Go distribution's packages (BSD)."""
    root = output("go", "env", "GOROOT")
    for folder in sorted(Path(root, "src").glob("*")) if root else ():
        if folder.is_dir():
            yield Unit("go", f"go/{folder.name}", str(folder))


def python_units() -> Iterator[Unit]:
    """Finds this interpreter's standard library and its installed packages (licence from their metadata)."""
    standard = Path(os.__file__).parent
    for entry in sorted(standard.iterdir()):
        if entry.name not in ("site-packages", "test", "__pycache__") and (entry.is_dir() or entry.suffix == ".py"):
            yield Unit("python", f"python-std/{entry.stem}", str(entry))
    for site in {Path(p) for p in sys.path if p.endswith("-packages")}:
        for info in sorted(site.glob("*.dist-info")):
            meta = (info / "METADATA").read_text(errors="replace") if (info / "METADATA").exists() else ""
            head = meta.split("\n\n", 1)[0]
            licence = "\n".join(x for x in head.split("\n") if x.startswith(("License", "Classifier: License")))
            if not is_permissive(licence):
                continue
            tops = {r.split("/", 1)[0] for r in (info / "RECORD").read_text().split("\n") if "/" in r}
            for top in sorted(t for t in tops if re.fullmatch(r"\w+", t) and t != "__pycache__" and (site / t).is_dir()):
                folders = sorted(f for f in (site / top).iterdir() if f.is_dir()) if top in LARGE else []
                for folder in folders or [site / top]:
                    yield Unit("python", f"python/{top}" + (f".{folder.name}" if folders else ""), str(folder))
                if top == "botocore":
                    for service in sorted((site / top / "data").iterdir()):
                        if service.is_dir():
                            yield Unit("aws", f"aws/{service.name}", str(service))


LARGE = frozenset("torch transformers scipy sklearn sympy pandas numpy django matplotlib statsmodels astropy ansible skimage Bio".split())


def node_units() -> Iterator[Unit]:
    """Finds the globally installed node packages (licence from package.json)."""
    root = output("npm", "root", "-g")
    for manifest in sorted(Path(root).glob("**/package.json")) if root else ():
        try:
            licence = str(json.loads(manifest.read_text()).get("license", ""))
        except (json.JSONDecodeError, AttributeError):
            continue
        if is_permissive(licence):
            yield Unit("node", f"node/{manifest.parent.name}", str(manifest.parent))


def manual_units() -> Iterator[Unit]:
    """Finds the English manual pages of Debian packages whose machine-readable copyright names only permissive licences."""
    for listing in sorted(Path("/var/lib/dpkg/info").glob("*.list")):
        package = listing.stem.split(":")[0]
        pages = [x for x in listing.read_text().split("\n") if x.startswith("/usr/share/man/man") and x.endswith(".gz")]
        notice = Path("/usr/share/doc", package, "copyright")
        if not pages or not notice.exists():
            continue
        licences = re.findall(r"^License:[ \t]*(\S.*)$", notice.read_text(errors="replace"), re.MULTILINE)
        if licences and all(is_permissive(x) for x in licences):
            yield Unit("manual page", f"man/{package}", "\n".join(p for p in pages if not Path(p).is_symlink()))


def extra_units(folders: list[str]) -> Iterator[Unit]:
    """Takes further folders that the caller knows to be under a permissive licence."""
    for root in folders:
        for folder in sorted(f for f in Path(root).iterdir() if f.is_dir()):
            yield Unit("python", f"{Path(root).name}/{folder.name}", str(folder))


def output(*command: str) -> str:
    """Runs a command and returns its output, empty where it is not installed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


# --- The whole -------------------------------------------------------------------------------------------------------

def shingles(text: str) -> list[int]:
    """Hashes every run of six words, letters only."""
    words = re.findall(r"[a-z]+", text.lower())
    return [zlib.crc32(" ".join(words[i:i + 6]).encode()) for i in range(max(1, len(words) - 5))]


def collect(destination: Path, extra: list[str], processes: int = 2) -> None:
    """Writes the corpus and prints what it holds by kind."""
    sources = (rust_units, go_units, python_units, node_units, manual_units)
    units = [u for source in sources for u in source()] + list(extra_units(extra))
    print(f"{len(units)} packages under permissive licences", flush=True)
    seen: set[int] = set()
    kinds: Counter[str] = Counter()
    dropped = 0
    with Pool(processes) as pool, destination.open("w") as out:
        for unit, found in zip(units, pool.imap(read_unit, units, chunksize=4)):
            for text in found:
                marks = shingles(text)
                if sum(m in seen for m in marks) > 0.25 * len(marks):
                    dropped += 1
                    continue
                seen.update(marks)
                kinds[unit.kind] += 1
                out.write(json.dumps({"package": unit.package, "kind": unit.kind, "text": text}) + "\n")
    for kind, count in kinds.most_common():
        print(f"{count:8d} paragraphs: {kind}")
    print(f"{sum(kinds.values()):8d} paragraphs; {dropped} near-duplicates dropped", flush=True)


def is_held_out(package: str) -> bool:
    """Sends about one package in ten to the held-out side, by its name alone."""
    return zlib.crc32(package.encode()) % 10 == 0
