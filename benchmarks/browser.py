"""The live page in a real browser: a server of its own, and headless Chromium to look at it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Nobody looks at the window; its timers and frames shall come all the same.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--window-size=1280,900",
)
#: the chart library where the page has loaded it by now; never waits, since a page may go away
ECHARTS = """
const library = window.solara && solara.cdn + '/echarts@5.4.0/dist/echarts.js';
const echarts =
  library && window.requirejs && requirejs.defined(library) ? requirejs(library) : null;
"""
_OPTION = (
    ECHARTS
    + """
const place = document.querySelector('.' + arguments[0]);
const chart = echarts && place ? echarts.getInstanceByDom(place) : null;
if (!chart) return null;
const option = chart.getOption();
return {series: option.series, x: option.xAxis[0].data, y: option.yAxis[0].data};
"""
)


def missing() -> str:
    """Why no browser can be had here; empty where one can."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed (apt-get install chromium chromium-driver)"
    for package in ("selenium", "solara"):
        try:
            __import__(package)
        except ImportError:
            return f"{package} is not installed (pip install '.[dashboard,test]')"
    return ""


@contextmanager
def served(*words: str) -> Iterator[str]:
    """The address of ``agent-economy dashboard WORDS``, on a free port, while it runs.

    Raises:
        RuntimeError: its first line names no address.
    """
    command = [sys.executable, "-m", "agent_economy", "dashboard", "--no-open", "--port", "0"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.search(r"http://localhost:\d+", line)
            if not found:
                raise RuntimeError(f"the server said {line!r}")
            yield found[0]
        finally:
            server.terminate()


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium with a profile of its own, which logs all that it asks for and says."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = str(shutil.which("chromium"))
        options.page_load_strategy = "none"  # whoever visits waits for what it wants to see
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
        driver.set_script_timeout(60)
        try:
            yield driver
        finally:
            driver.quit()


def chart(driver: Any, name: str) -> dict[str, Any] | None:
    """What a chart draws: its series and the names along its axes; None if it is not there yet."""
    found: dict[str, Any] | None = driver.execute_script(_OPTION, name)
    return found


def asked_hosts(driver: Any) -> set[str]:
    """Every host that the page has asked for anything, web sockets included."""
    hosts = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        urls = {
            "Network.requestWillBeSent": lambda params: params["request"]["url"],
            "Network.webSocketCreated": lambda params: params["url"],
        }
        if message["method"] in urls:
            url = urlsplit(urls[message["method"]](message["params"]))
            if url.scheme not in ("data", "blob", "about", "chrome"):
                hosts.add(url.hostname or url.geturl())
    return hosts


def complaints(driver: Any) -> list[str]:
    """Errors on the browser's console."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
