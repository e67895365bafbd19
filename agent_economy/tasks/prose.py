"""Markup and tokenisation undone, so that a model reads plain sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_FEWEST_WORDS = 8
_FEWEST_LETTERS = 0.72  # share of letters and blanks; code and tables fall below it


def manual_prose(topic: str) -> list[str]:
    """The prose paragraphs of one page of the Python manual, as ``pydoc_data.topics`` holds it.

    Headings, grammar, code, tables and bare signatures are left out; quotation marks around code
    words, emphasis stars and footnote marks are taken off.

    Args:
        topic: the page, reStructuredText rendered to text.

    Returns:
        One string per paragraph, each made of whole sentences.
    """
    found = []
    for block in re.split(r"\n\s*\n", topic):
        if re.search(r"::=|^\s*(>>>|\.\.\.|[|+]|[=*~^-]{3,})", block, re.MULTILINE):
            continue
        text = " ".join(block.split())
        text = re.sub(r"^([*+-]|\[\d+\]|\d+\.)\s+", "", text)
        text = re.sub(r"\s*\[\d+\]", "", text)
        text = re.sub(r"\u2018?\"([^\"\s][^\"]*)\"\u2019?", r"\1", text)
        text = re.sub(r"\*{1,2}([^*\s][^*]*?)\*{1,2}", r"\1", text)
        letters = sum(c.isalpha() or c == " " for c in text)
        if (
            len(text.split()) >= _FEWEST_WORDS
            and letters >= _FEWEST_LETTERS * len(text)
            and text[0].isupper()
            and text[-1] in ".!?:)"
        ):
            found.append(text)
    return found


def undo_wikitext(lines: Iterable[str]) -> Iterator[list[str]]:
    """Articles of WikiText as plain English.

    ``@-@``, ``@,@`` and ``@.@`` become the sign between them, and the blanks that tokenisation put
    around punctuation go. A sentence that holds ``<unk>`` is left out whole: subword models would
    read the mark as five strange tokens, and any word put in its place would be ours. Headings are
    left out.

    Args:
        lines: the file's lines, one paragraph each.

    Yields:
        The paragraphs of one article.
    """
    article: list[str] = []
    for line in lines:
        line = line.strip()
        if re.fullmatch(r"= [^=].* =", line):  # one "=": a new article
            if article:
                yield article
            article = []
        elif line and not line.startswith("= ="):
            sentences = re.split(r"(?<= [.!?]) ", line)
            kept = " ".join(sentence for sentence in sentences if "<unk>" not in sentence)
            if kept:
                article.append(_join_tokens(kept))
    if article:
        yield article


def _join_tokens(text: str) -> str:
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r" ([,.;:!?)\]%]|'s\b|n't\b|'(?:re|ve|ll|d|m)\b)", r"\1", text)
    text = re.sub(r"([(\[$£]) ", r"\1", text)
    text = re.sub(r'" ([^"]*?) "', r'"\1"', text)
    return " ".join(text.split())
