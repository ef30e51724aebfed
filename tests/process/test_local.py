"""The main job: real speech through every door, and what can be seen of it from outside."""

import asyncio
import io
import re
import wave
from array import array
from pathlib import Path

import aiohttp
import orjson
import pytest
from program import Program, free_offset, run, until

SENTENCE = "Good morning. The board is in session."
NAME = re.compile(r"[a-z_]+")
VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?|[+-]Inf|NaN")


def request(text: str = SENTENCE, form: str = "wav") -> bytes:
    """Make the body of the README's call."""
    return orjson.dumps({"model": "tts-1", "input": text, "voice": "heart", "response_format": form})


async def call(program: Program, port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Call a port of the map."""
    url = f"http://127.0.0.1:{port + program.offset}{path}"
    method = "GET" if body is None else "POST"
    async with aiohttp.ClientSession() as session, session.request(method, url, data=body) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("port", [8090, 8200, 8201, 8202])
async def test_speech_is_heard_through_every_door(local: Program, port: int) -> None:
    """A WAV whose sound lasts as long as the sentence and is not silent."""
    status, audio = await call(local, port, "/v1/audio/speech", request())
    assert status == 200
    with wave.open(io.BytesIO(audio)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24000)
    samples = array("h", audio[44:])
    assert 2 * 24000 < len(samples) < 6 * 24000
    assert max(samples) > 3000


async def test_mp3_is_the_default(local: Program) -> None:
    """As OpenAI's is."""
    status, audio = await call(local, 8200, "/v1/audio/speech", orjson.dumps({"input": "Hello.", "voice": "alloy"}))
    assert status == 200
    assert audio[0] == 0xFF
    assert audio[1] & 0xE0 == 0xE0


async def test_an_engine_s_refusal_passes(local: Program) -> None:
    """Its status and its words reach the caller."""
    status, body = await call(local, 8200, "/v1/audio/speech", request(form="flac"))
    assert status == 400
    assert "response_format" in orjson.loads(body)["detail"]


async def test_voila_is_absent_here(local: Program) -> None:
    """Nothing outside loopback is contacted: 503 in JSON, while the port itself is well."""
    status, body = await call(local, 8000, "/anything")
    assert status == 503
    assert orjson.loads(body)["reason"] == "no_endpoint_ready"
    assert (await call(local, 8000, "/health"))[0] == 200
    assert (await call(local, 8000, "/ready"))[0] == 503


async def test_verify_is_green(local: Program) -> None:
    """Every open port answers /health as the contract says, byte for byte."""
    verified = run("verify", "--local", "--port-offset", str(local.offset), "--json")
    findings = orjson.loads(verified.stdout)
    assert verified.returncode == 0
    assert {finding["port"] - local.offset for finding in findings} == {
        8000,
        8090,
        8091,
        8097,
        8200,
        8201,
        8202,
        8250,
        8300,
    }
    assert (await call(local, 8090, "/health"))[1] == b'{"status":"ok","service":"tts-tier1"}'


async def test_the_pool_s_state_as_json(local: Program) -> None:
    """8091 tells endpoints, slots, open leases, queue, health, ejections and TTFA."""
    await call(local, 8090, "/v1/audio/speech", request("One."))
    status, body = await call(local, 8091, "/status")
    assert status == 200
    (pool,) = orjson.loads(body)["pools"]
    assert pool["name"] == "tts-tier1"
    assert pool["queue"]["length"] == 0
    assert [endpoint["slots"] for endpoint in pool["endpoints"]] == [2] * 5
    assert all(endpoint["healthy"] and endpoint["ejections"] == 0 for endpoint in pool["endpoints"])
    assert sum(endpoint["ttfa_s"]["count"] for endpoint in pool["endpoints"]) > 0


@pytest.mark.parametrize("port", [8000, 8090, 8091, 8097, 8200])
async def test_metrics_are_what_dashboards_read(local: Program, port: int) -> None:
    """Names of letters and underscores, plain decimals, no `_created`; a speech port has the names of old."""
    status, body = await call(local, port, "/metrics")
    text = body.decode()
    assert status == 200
    assert "_created" not in text
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        series, _, value = line.rpartition(" ")
        assert NAME.fullmatch(series.partition("{")[0]), line
        assert VALUE.fullmatch(value), line
    expected = {"http_requests_total", "http_request_duration_seconds", "service_health_status"}
    if port in {8090, 8097, 8200}:
        expected |= {"tts_synthesis_duration_seconds", "tts_requests_total", "tts_requests_failed_total"}
        expected |= {"endpoint_ttfa_seconds", "pool_queue_wait_seconds", "endpoint_inflight", "endpoint_healthy"}
    assert all(f"# TYPE {name} " in text for name in expected)
    listeners = set(re.findall(r'http_request_duration_seconds_count\{.*listener="([^"]+)"', text))
    assert len(listeners) == (9 if port == 8097 else 1)


async def test_no_series_stands_twice_in_the_whole_scrape(local: Program) -> None:
    """Three doors of one service are three series."""
    text = (await call(local, 8097, "/metrics"))[1].decode()
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    assert sum(one.startswith('service_health_status{worker="balance",service="tts-master"') for one in series) == 3
    workers = {"balance", "gateway", "operate", "supervisor"}
    assert {f'edge_log_lines_dropped_total{{worker="{name}"}}' for name in workers} <= set(series)


async def test_what_is_logged_of_a_request(local: Program) -> None:
    """One JSON line, without a query, a token or a body."""
    url = f"http://127.0.0.1:{8200 + local.offset}/v1/audio/speech?key=very-secret"
    headers = {"Authorization": "Bearer very-secret", "X-Request-Id": "find-me"}
    body = request("A very-secret sentence.")
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        assert answer.headers["X-Request-Id"] == "find-me"
        size = len(await answer.read())
    await asyncio.to_thread(until, lambda: local.said("find-me"))
    (line,) = [orjson.loads(line) for line in local.text.splitlines() if "find-me" in line]
    assert line["event"] == "request"
    assert (line["listener"], line["method"], line["path"], line["status"]) == (
        "tts-master",
        "POST",
        "/v1/audio/speech",
        200,
    )
    assert line["sent"] == size
    assert 0 < line["ttfb_us"] <= line["duration_us"]
    assert "very-secret" not in local.text


async def test_a_status_port_has_nothing_else(local: Program) -> None:
    """404 and 405 in JSON."""
    assert (await call(local, 8091, "/elsewhere"))[0] == 404
    status, body = await call(local, 8091, "/health", b"x")
    assert status == 405
    assert orjson.loads(body)["statusCode"] == 405


def test_taken_ports_are_named_with_their_holder(local: Program, state_dir: Path) -> None:
    """All of them, with a free offset, before anything is started."""
    refused = run("serve", "--local", "--port-offset", str(local.offset), "--state-dir", state_dir)
    assert refused.returncode == 1
    for port in (8000, 8090, 8200, 8104):
        assert f"port {port + local.offset} " in refused.stderr
    assert f"(pid {local.process.pid})" in refused.stderr
    assert "--port-offset " in refused.stderr
    assert not (state_dir / "postgres").exists()


def test_one_state_directory_serves_one_program(local: Program) -> None:
    """The second is told who has it."""
    refused = run("serve", "--local", "--port-offset", str(free_offset()), "--state-dir", local.state_dir)
    assert refused.returncode == 1
    assert str(local.process.pid) in refused.stderr
