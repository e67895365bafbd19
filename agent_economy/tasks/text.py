"""Real text by name, as paragraphs: what a study of unlabelled text runs over."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from agent_economy.errors import EconomyError, unknown
from agent_economy.tasks.data import data_file, from_hub
from agent_economy.tasks.prose import manual_prose, undo_wikitext

SHORTEST, LONGEST = 200, 1200
"""Characters in a paragraph, where the source lets us choose."""


def sample_texts(source: str, n: int, seed: int, data_dir: str | Path | None = None) -> list[str]:
    """``n`` different paragraphs, drawn without replacement.

    Args:
        source: ``python-docs`` (the language's own manual, on every Python install),
            ``wikitext-2`` (its validation part), ``wikitext-2-train``, ``wikitext-103``, or the
            path of a UTF-8 text file.
        n: how many.
        seed: of the draw; the first k of n texts are those of a draw of k.
        data_dir: where wikitext lies; None takes ``AGENT_ECONOMY_DATA``, then the hub.

    Raises:
        EconomyError: an unknown source, no data folder, a file that is empty, binary or not
            UTF-8, or fewer than ``n`` paragraphs.
    """
    texts = paragraphs(source, data_dir)
    if not 1 <= n <= len(texts):
        raise EconomyError(
            f"{source!r} has {len(texts)} paragraphs; ask for 1 to that many, not {n}"
        )
    order = np.random.default_rng(seed).permutation(len(texts))
    return [texts[place] for place in order[:n]]


def paragraphs(source: str, data_dir: str | Path | None = None) -> list[str]:
    """All paragraphs of a source, in order and each once, 200 to 1200 characters long.

    Neighbours that are shorter are joined and longer ones are cut between sentences. A text file
    that has less than that gives what it has.

    Raises:
        EconomyError: as `sample_texts`.
    """
    if source in _SOURCES:
        pieces = [_resize(document) for document in _SOURCES[source](data_dir)]
        return list(dict.fromkeys(text for piece in pieces for text in piece))
    path = Path(source).expanduser()
    if not path.exists() and not re.search(r"[/\\.]", source):
        raise unknown("text", source, _SOURCES)
    document = re.split(r"\n\s*\n", read_text(path))
    tidy = [" ".join(part.split()) for part in document]
    return list(dict.fromkeys(_resize(tidy))) or [" ".join(part for part in tidy if part)]


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        EconomyError: the file is missing, empty, binary or not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise EconomyError(f"cannot read {path}: {error.strerror}") from error
    if b"\0" in raw:
        raise EconomyError(f"{path} is binary; give a UTF-8 text file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise EconomyError(f"{path} is not UTF-8 (line {line}); convert it first") from error
    if not text.strip():
        raise EconomyError(f"{path} is empty; give a file with text in it")
    return text


def text_digest(texts: Iterable[str]) -> str:
    """SHA-256 over texts and their order, for a manifest's data hashes."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def _resize(document: Iterable[str]) -> list[str]:
    """Paragraphs of one document, joined or cut to between `SHORTEST` and `LONGEST`."""
    sized: list[str] = []
    open_text = ""
    for sentence_group in document:
        for piece in _cut(sentence_group):
            joined = f"{open_text} {piece}".strip()
            if len(joined) > LONGEST:  # the short beginning cannot take this piece in: let it go
                joined = piece
            open_text = joined
            if len(open_text) >= SHORTEST:
                sized.append(open_text)
                open_text = ""
    return sized


def _cut(paragraph: str) -> Iterator[str]:
    """The paragraph itself, or pieces of whole sentences no longer than `LONGEST`."""
    if len(paragraph) <= LONGEST:
        yield paragraph
        return
    piece = ""
    for sentence in re.split(r"(?<=[.!?])\s+", paragraph):
        if piece and len(piece) + 1 + len(sentence) > LONGEST:
            yield piece
            piece = ""
        piece = f"{piece} {sentence}".strip()
        while len(piece) > LONGEST:  # one endless sentence: cut between words, or anywhere
            end = piece.rfind(" ", 0, LONGEST + 1)
            end = end if end > 0 else LONGEST
            yield piece[:end]
            piece = piece[end:].strip()
    if piece:
        yield piece


def _python_docs(data_dir: str | Path | None) -> Iterator[list[str]]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield manual_prose(topics[name])


def _wikitext_2(data_dir: str | Path | None, split: str = "validation") -> Iterator[list[str]]:
    file = {"validation": "valid", "train": "train"}[split]
    path = data_file(f"wikitext-2/wiki.{file}.tokens", data_dir)
    if path is None:
        rows = from_hub("wikitext-2", "Salesforce/wikitext", "wikitext-2-v1", split)
        return undo_wikitext(rows["text"])
    return undo_wikitext(read_text(path).split("\n"))


def _wikitext_103(data_dir: str | Path | None) -> Iterator[list[str]]:
    path = data_file("wikitext-103/valid.csv", data_dir)
    if path is None:
        rows = from_hub("wikitext-103", "Salesforce/wikitext", "wikitext-103-v1", "validation")
        return undo_wikitext(rows["text"])
    lines = read_text(path).splitlines(keepends=True)
    return undo_wikitext(row[0] if row else "" for row in csv.reader(lines))


_SOURCES: dict[str, Callable[[str | Path | None], Iterator[list[str]]]] = {
    "python-docs": _python_docs,
    "wikitext-2": _wikitext_2,
    "wikitext-2-train": partial(_wikitext_2, split="train"),
    "wikitext-103": _wikitext_103,
}
