"""What Prometheus and Grafana make of the running program: what is shipped for them finds its series."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import aiohttp
import pytest
import trustme
from program import ROOT, Program, free_offset, run, serve, until

from tests.ports import free_port

CONFIG = """
[edge]
connections = 100

[gateway.services.example]
hosts = ["example.com"]

[gateway.rehearsal]
dns = "127.0.0.1:{upstream}"
networks = ["127.0.0.0/8"]
authority = "{folder}/authority.pem"
port = {upstream}

[pools.tts]
kind = "speech"
endpoints = ["127.0.0.1:8100", "127.0.0.1:8101"]
interchangeable = true
repeatable = true
slots = 2
local = "speech"

[listeners.tts]
kind = "balance"
port = 8200
pool = "tts"

[listeners.secured]
kind = "balance"
port = 8201
pool = "tts"
tls = {{ certificate = "{folder}/server.pem", key = "{folder}/server.key" }}

[listeners.metrics]
kind = "status"
port = 8097

[listeners.api-gateway]
kind = "gateway"
port = 8300
"""
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/sovren-edge.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
RULES = re.findall(r"expr: (>-\n(?: {10}.*\n)+|.*\n)", (DEPLOY / "prometheus/rules.yml").read_text(encoding="utf-8"))
SERIES = re.compile(r"\b(?:edge|endpoint|gateway|http|pool|process|service|tts)_[a-z_]+\b")
# What this program does not have: a limiter in Redis, and a collector of traces.
ELSEWHERE = {"gateway_clock_steps_total", "edge_spans_dropped_total"}
TEXT = "Good morning. The board is in session. Each of us has read the papers, and nobody has a question."
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
NOT_INSTALLED = "Prometheus is not installed (Debian: prometheus); the dashboard and the scrape are not tried with it"


@contextmanager
def external_api(folder: Path) -> Iterator[int]:
    """Play the world outside: a service, its certificate, and its name."""
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    pair = authority.issue_cert("api.example.com", "localhost")
    pair.private_key_pem.write_to_path(str(folder / "server.key"))
    pair.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    command = [sys.executable, str(ROOT / "bench/gateway_upstream.py"), str(port)]
    process = subprocess.Popen([*command, str(folder / "server.pem"), str(folder / "server.key")])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the program, with callers of every kind until the end."""
    folder = tmp_path_factory.mktemp("watched")
    config, state = folder / "config.toml", folder / "state"
    with external_api(folder) as upstream:
        config.write_text(CONFIG.format(upstream=upstream, folder=folder), encoding="utf-8")
        with serve(state, "--local", "--config", str(config), offset=free_offset(config)) as program:
            local = ("--local", "--state-dir", state, "--config", config)
            assert run("subscriber", "add", "ann", "--hourly-limit", "100000", *local).returncode == 0
            token = run("token", "--subject", "ann", "--state-dir", state).stdout.splitlines()[-1]
            ended = Event()
            callers = Thread(target=lambda: asyncio.run(call_all_the_time(program, token, ended)))
            callers.start()
            yield program
            ended.set()
            callers.join()


async def call_all_the_time(program: Program, token: str, ended: Event) -> None:
    """Speak, call a service, call one that is not allowed, and connect without TLS where it is spoken."""
    at, headers = "http://127.0.0.1:{}{}", {"Authorization": f"Bearer {token}"}
    speech, proxy = (
        at.format(8200 + program.offset, "/v1/audio/speech"),
        at.format(8300 + program.offset, "/proxy/ann/"),
    )
    async with aiohttp.ClientSession(headers=headers) as session:

        async def post(url: str, body: object = None) -> None:
            async with session.post(url, json=body) as answer:
                await answer.read()

        while not ended.is_set():
            await asyncio.gather(
                *(post(speech, {"input": TEXT, "response_format": "pcm"}) for _ in range(2)),
                post(proxy + "example?url=https://api.example.com/v1"),
                post(proxy + "example?url=https://evil.example/"),
            )
            with suppress(aiohttp.ClientError):
                await post(at.format(8201 + program.offset, "/"))


def scrape(program: Program) -> str:
    """Read all series."""
    with urllib.request.urlopen(f"http://127.0.0.1:{8097 + program.offset}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


@contextmanager
def prometheus(program: Program, folder: Path) -> Iterator[str]:
    """Run Prometheus with what is shipped for it, in a hurry; yield its URL."""
    text = (DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8").replace("15s", "1s")
    text = text.replace("10.15.38.1:8097", f"127.0.0.1:{8097 + program.offset}")
    text = text.replace("rules.yml", str(DEPLOY / "prometheus/rules.yml"))
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [str(PROMETHEUS), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log, cwd=folder)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def ask(prometheus: str, what: str, **given: str) -> Any:  # noqa: ANN401 - JSON
    """Ask its API; None as long as it does not answer."""
    with suppress(OSError):
        url = f"{prometheus}/api/v1/{what}?{urllib.parse.urlencode(given)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - it is http
            return json.load(answer)["data"]
    return None


def shows_something(prometheus: str, expression: str) -> bool:
    """Whether a panel has a number to show."""
    expression = expression.replace("$__rate_interval", "10s").replace("$instance", ".*")
    data = ask(prometheus, "query", query=expression)
    return data is not None and any(series["value"][1] != "NaN" for series in data["result"])


@pytest.mark.skipif(PROMETHEUS is None, reason=NOT_INSTALLED)
def test_every_panel_shows_something(busy: Program, tmp_path: Path) -> None:
    """By Prometheus' own evaluation, while callers call; and its rules can all be evaluated."""
    with prometheus(busy, tmp_path) as url:
        empty = EXPRESSIONS

        def all_show() -> bool:
            nonlocal empty
            empty = [expression for expression in empty if not shows_something(url, expression)]
            return not empty

        with suppress(AssertionError):
            until(all_show, 60)
        assert not empty
        groups = ask(url, "rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


@pytest.mark.skipif(PROMTOOL is None, reason=NOT_INSTALLED)
def test_the_scrape_is_as_prometheus_wants_it(busy: Program) -> None:
    """Well-formed, and named by its customs."""
    judged = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=scrape(busy), capture_output=True, text=True, check=False, timeout=60
    )
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")


@pytest.mark.parametrize("expressions", [EXPRESSIONS, RULES], ids=["dashboard", "rules"])
def test_every_series_that_is_named_is_there(busy: Program, expressions: list[str]) -> None:
    """In one scrape of the running program, once it has been called."""
    named = {name for one in expressions for name in SERIES.findall(re.sub('"[^"]*"', "", one))} - ELSEWHERE
    assert len(named) > 40

    def missing() -> set[str]:
        return named - set(re.findall(r"^([a-z_]+)", scrape(busy), re.MULTILINE))

    with suppress(AssertionError):
        until(lambda: not missing(), 30)
    assert not missing()


def test_every_series_is_described(busy: Program) -> None:
    """Where operators look for it; and nothing is described that is not there."""
    described = {
        name
        for page, section in (("operating.md", "Metrics"), ("gateway.md", "What to watch"))
        for row in re.findall(r"^\| (`[^|]*) \|", section_of(ROOT / "docs" / page, section), re.MULTILINE)
        for name in SERIES.findall(row)
    }
    assert set(re.findall(r"^# TYPE (\w+)", scrape(busy), re.MULTILINE)) == described - ELSEWHERE


def section_of(page: Path, title: str) -> str:
    """Return what stands under a title."""
    return page.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_panels_have_a_place_each() -> None:
    """Nothing lies on anything else, and none has another's number."""
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${source}"}
