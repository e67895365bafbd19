"""Encoding: padded rows, long texts chunked and reported, nothing lost."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from agent_economy.errors import EconomyError
from agent_economy.tasks.encoding import encode

WORDS = [f"w{i}" for i in range(40)]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def test_short_texts_are_padded_on_the_right(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = encode(tokenizer, ["w0 w1", "w2"], max_tokens=16, model_positions=512)
    assert batch["input_ids"].tolist() == [[1, 3, 4, 2], [1, 5, 2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert set(batch) == {"input_ids", "attention_mask"}  # goes into a model as it is
    assert batch.message is None and batch.chunked == 0


def test_a_long_text_is_chunked_and_said_so(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = encode(tokenizer, [" ".join(WORDS), "w0"], max_tokens=None, model_positions=12)
    assert batch["input_ids"].shape == (5, 12)
    assert batch.text_of_row == [0, 0, 0, 0, 1]
    assert batch.message == "1 of 2 texts are longer than 12 tokens: chunked, 5 rows in all"
    content = [i for row in batch["input_ids"][:4].tolist() for i in row if i > 2]
    assert content == list(range(3, 43))  # every word once, in order
    assert batch["input_ids"][:4, 0].eq(1).all()


def test_the_tightest_limit_holds(tokenizer: PreTrainedTokenizerFast) -> None:
    text = " ".join(WORDS)
    assert encode(tokenizer, [text], 8, 12)["input_ids"].shape[1] == 8
    tokenizer.model_max_length = 6
    assert encode(tokenizer, [text], 8, 12)["input_ids"].shape[1] == 6


def test_bad_input_is_one_line(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(EconomyError, match="text 2 of 2 is empty"):
        encode(tokenizer, ["w0", " "], 8, 12)
    with pytest.raises(EconomyError, match="no text"):
        encode(tokenizer, [], 8, 12)
    with pytest.raises(EconomyError, match="no room"):
        encode(tokenizer, ["w0"], 2, 12)
