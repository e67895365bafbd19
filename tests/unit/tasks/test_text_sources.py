"""Text sources: plain prose in, one-line errors out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_economy.errors import EconomyError
from agent_economy.tasks.prose import manual_prose, undo_wikitext
from agent_economy.tasks.text import LONGEST, SHORTEST, paragraphs, sample_texts, text_digest

needs_data = pytest.mark.skipif(
    not os.environ.get("AGENT_ECONOMY_DATA"), reason="AGENT_ECONOMY_DATA is unset: no data sets"
)


def test_the_manual_is_sampled_as_prose() -> None:
    texts = sample_texts("python-docs", 64, seed=3)
    assert len(set(texts)) == 64
    assert all(SHORTEST <= len(text) <= LONGEST for text in texts)
    assert not any("::=" in text or ">>>" in text or "  " in text for text in texts)
    assert sample_texts("python-docs", 8, seed=3) == texts[:8]
    assert sample_texts("python-docs", 8, seed=4) != texts[:8]


def test_manual_prose_leaves_markup_and_code_out() -> None:
    topic = (
        'The "assert" statement\n**********************\n\n'
        '*Objects* are an **important** part, and the \u2018"is"\u2019 operator compares '
        'the\nidentity of "x" and two others. [1]\n\n'
        "   if __debug__:\n       if not expression: raise AssertionError\n\n"
        '   assert_stmt ::= "assert" expression\n\n'
        ">>> this is a session that is long enough to be a sentence.\n"
    )
    assert manual_prose(topic) == [
        "Objects are an important part, and the is operator compares "
        "the identity of x and two others."
    ]


def test_wikitext_is_undone_and_unknown_words_drop_their_sentence() -> None:
    lines = [
        " = Lobster = ",
        " It weighs 0 @.@ 7 kg ( 1 @,@ 000 g ) , a well @-@ known fact . The <unk> is . ",
        " = = Range = = ",
        ' They turn " lobster red " on cooking . ',
        " = Mill = ",
        " The <unk> stands . ",
        " = Cap = ",
        " It turns . ",
    ]
    assert list(undo_wikitext(lines)) == [
        [
            "It weighs 0.7 kg (1,000 g), a well-known fact.",
            'They turn "lobster red" on cooking.',
        ],
        ["It turns."],
    ]


@needs_data
@pytest.mark.parametrize("source", ["wikitext-2", "wikitext-103"])
def test_wikitext_is_read_from_the_data_folder(source: str) -> None:
    texts = paragraphs(source)
    assert len(texts) > 500
    assert not any("<unk>" in text or "@-@" in text or " ," in text for text in texts)


def test_a_file_gives_its_paragraphs(tmp_path: Path) -> None:
    sentence = "The market clears once per layer and per token. "
    path = tmp_path / "text.txt"
    path.write_text(sentence * 3 + "\n\n" + sentence * 3 + "\n\n" + sentence * 60)
    texts = paragraphs(str(path))
    assert texts[0] == (sentence * 6).strip()
    assert all(SHORTEST <= len(text) <= LONGEST for text in texts)
    assert all(text.endswith(".") for text in texts)


def test_a_short_file_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("One line.\n\nAnother.\n")
    assert paragraphs(str(path)) == ["One line. Another."]


def test_an_endless_sentence_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    numbers = [str(number) for number in range(1000)]  # no piece is like another
    path.write_text(" ".join(numbers) + " " + "".join(numbers))
    texts = paragraphs(str(path))
    assert all(len(text) <= LONGEST for text in texts)
    assert "".join(texts).replace(" ", "") == 2 * "".join(numbers)  # and nothing is lost


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
        (b"\x89PNG\0\0", "is binary"),
        (b"fine\ncaf\xe9\n", r"not UTF-8 \(line 2\)"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(EconomyError, match=message):
        sample_texts(str(path), 1, seed=0)


def test_bad_requests_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EconomyError, match="did you mean 'wikitext-2'"):
        sample_texts("wikitext2", 1, seed=0)
    with pytest.raises(EconomyError, match=r"cannot read .*nope\.txt: No such file"):
        sample_texts(str(tmp_path / "nope.txt"), 1, seed=0)
    with pytest.raises(EconomyError, match="ask for 1 to that many"):
        sample_texts("python-docs", 10**6, seed=0)
    with pytest.raises(EconomyError, match="does not exist"):
        sample_texts("wikitext-2", 1, seed=0, data_dir=tmp_path / "nope")
    with pytest.raises(EconomyError, match=r"holds no wikitext-2/wiki\.valid\.tokens"):
        sample_texts("wikitext-2", 1, seed=0, data_dir=tmp_path)
    monkeypatch.delenv("AGENT_ECONOMY_DATA", raising=False)
    monkeypatch.setattr("agent_economy.tasks.data.find_spec", lambda name: None)
    with pytest.raises(EconomyError, match="set AGENT_ECONOMY_DATA to the folder"):
        sample_texts("wikitext-2", 1, seed=0)


def test_the_digest_knows_where_texts_end() -> None:
    assert text_digest(["ab", "c"]) != text_digest(["a", "bc"])
    assert text_digest(["a"]) == text_digest(iter(["a"]))
