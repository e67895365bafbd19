"""How long the live page takes for a step: the model's part, and until the browser has drawn it.

A sentence of 32 tokens on the page, a stream of rows of 32 tokens, MiniLM, all six layers shown.

    python -m benchmarks.dashboard
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from benchmarks.browser import chart, chromium, missing, served

STEPS = 25
SENTENCE = (
    "the committee approved the budget after a long debate about its costs and then went home "
    "because the trains would not wait for anybody who was late that night"
)

_STEP = """
const [step, done] = [arguments[0], arguments[arguments.length - 1]];
requirejs([solara.cdn + '/echarts@5.4.0/dist/echarts.js'], (echarts) => {
  const prices = () => {
    const place = document.querySelector('.chart-prices') || document.body;
    const chart = echarts.getInstanceByDom(place);
    const points = chart ? chart.getOption().series[0].data : [];
    return points.length ? points[points.length - 1][0] : 0;
  };
  const button = [...document.querySelectorAll('button')].find(
    (each) => each.textContent.trim() === 'Step');
  const start = performance.now();
  button.click();
  const look = () => {
    const number = document.querySelector('[data-number="steps"] b');
    if (prices() >= step && number && +number.textContent >= step) {
      requestAnimationFrame(() => done(performance.now() - start));
    } else requestAnimationFrame(look);
  };
  look();
});
"""


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
        times = [driver.execute_async_script(_STEP, step) for step in range(1, steps + 1)]
    return {"part": "click to drawn", "tokens": tokens, **_summary(times[3:])}


def _summary(times: list[float]) -> dict[str, float]:
    """The first steps are warm-up and left out before."""
    return {
        "median_ms": round(statistics.median(times), 1),
        "p90_ms": round(statistics.quantiles(times, n=10)[-1], 1),
        "steps": len(times),
    }


if __name__ == "__main__":
    rows = [model_ms()]
    if why := missing():
        print(f"not measured in a browser: {why}")
    else:
        rows.append(page_ms())
    for row in rows:
        print(json.dumps(row))
