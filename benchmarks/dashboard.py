"""How long the live page takes for a step: the model's part, and until the browser has drawn it.

A sentence of 32 tokens on the page, a stream of rows of 32 tokens, MiniLM, all six layers shown.

    python -m benchmarks.dashboard
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from benchmarks.browser import ECHARTS, chart, chromium, missing, served
from benchmarks.words import parser

STEPS = 25
SENTENCE = (
    "the committee approved the budget after a long debate about its costs and then went home "
    "because the trains would not wait for anybody who was very late that night"
)

_CLICK = (
    ECHARTS
    + """
const step = arguments[0];
const seen = window.economyStep = {drawn_ms: null, price_step: null, number: null};
const button = [...document.querySelectorAll('button')].find(
  (each) => each.textContent.trim() === 'Step');
const start = performance.now();
const look = () => {
  if (window.economyStep !== seen) return;
  const place = document.querySelector('.chart-prices');
  const chart = place && echarts.getInstanceByDom(place);
  const points = chart ? chart.getOption().series[0].data : [];
  const number = document.querySelector('[data-number="steps"] b');
  seen.price_step = points.length ? points[points.length - 1][0] : 0;
  seen.number = number ? +number.textContent : 0;
  if (Math.min(seen.price_step, seen.number) < step) requestAnimationFrame(look);
  else requestAnimationFrame(() => { seen.drawn_ms = performance.now() - start; });
};
button.click();
look();
"""
)


def click_to_drawn_ms(driver: Any, step: int, patience_s: float = 60.0) -> float:
    """Click on Step, and how long it takes until the step is on the page.

    The page keeps the time itself; it is asked for it now and then, so that a page that never
    gets there says how far it came.

    Args:
        driver: at a live page.
        step: that the click makes.
        patience_s: how long to wait.

    Raises:
        TimeoutError: the step was not drawn by then.
    """
    driver.execute_script(_CLICK, step)
    end = time.monotonic() + patience_s
    while True:
        time.sleep(0.1)
        seen = driver.execute_script("return window.economyStep")
        if seen["drawn_ms"] is not None:
            return float(seen["drawn_ms"])
        if time.monotonic() > end:
            raise TimeoutError(f"step {step} was not drawn within {patience_s:g} s: {seen}")


def model_ms(steps: int = STEPS) -> dict[str, Any]:
    """The Mesa model alone: a stream's forward, the sentence's forward, the records."""
    from agent_economy.dashboard.live import LiveEconomy
    from agent_economy.dashboard.setting import Setting
    from agent_economy.dashboard.workshop import Workshop

    live = LiveEconomy(Workshop(Setting(sentence=SENTENCE)))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        live.step()
        times.append((time.perf_counter() - start) * 1e3)
    return {"part": "model", "tokens": len(live.reading.tokens), **_summary(times[3:])}


def page_ms(steps: int = STEPS) -> dict[str, Any]:
    """From the click on Step until the browser has the new step on its charts."""
    with served("-s", f"sentence={SENTENCE}") as address, chromium() as driver:
        driver.get(address)
        tokens = 0
        for _ in range(600):
            shown = chart(driver, "chart-sentence")
            if shown is not None:
                tokens = len(shown["x"])
                break
            time.sleep(0.1)
        times = [click_to_drawn_ms(driver, step) for step in range(1, steps + 1)]
    return {"part": "click to drawn", "tokens": tokens, **_summary(times[3:])}


def _summary(times: list[float]) -> dict[str, float]:
    """The first steps are warm-up and left out before."""
    return {
        "median_ms": round(statistics.median(times), 1),
        "p90_ms": round(statistics.quantiles(times, n=10)[-1], 1),
        "steps": len(times),
    }


def main(words: list[str] | None = None) -> None:
    """Print the model's part and, where there is a browser, how long it takes to draw."""
    parser(__doc__).parse_args(words)
    rows = [model_ms()]
    if why := missing():
        print(f"not measured in a browser: {why}")
    else:
        rows.append(page_ms())
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
