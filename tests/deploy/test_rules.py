"""The alerts that are shipped, judged and tried by Prometheus' own tool, and what operators are told of each."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules.yml"
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
PROMTOOL = shutil.which("promtool")
with_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: prometheus); the shipped alerts are not tried"
)
EDGE, BALANCE, SPEECH = '{instance="a",job="sovren-edge"}', '{worker="balance"}', '{listener="tts-master"}'
GATEWAY, CSM, ENDPOINT = '{worker="gateway",listener="api-gateway"}', '{pool="csm"}', '{pool="csm",endpoint="csm-01"}'
REFUSED = 'gateway_requests_total{{instance="a",service="slack",decision="refused",reason="{}"}}'
SETTLED = REFUSED.replace("refused", "settled")
ANSWERS = 'executives_answers_total{{listener="executives",outcome="{}"}}'
FIRST_AUDIO = 'executives_step_seconds_bucket{{listener="executives",step="first_audio",le="{}"}}'

# What an hour looks like in which all is well: values by the minute, as promtool writes them.
WELL = {
    f"up{EDGE}": "1x60",
    f"service_health_status{SPEECH}": "1x60",
    'http_requests_total{listener="tts-master",status="200"}': "0+100x60",
    'http_requests_total{listener="tts-master",status="503"}': "0+1x60",
    f"edge_worker_failed{BALANCE}": "0x60",
    f"edge_worker_up{BALANCE}": "1x60",
    f"edge_worker_restarts_total{BALANCE}": "3x60",
    'edge_loop_lag_seconds_bucket{worker="balance",le="0.02"}': "0+1200x60",
    'edge_loop_lag_seconds_bucket{worker="balance",le="0.1"}': "0+1200x60",
    'edge_loop_lag_seconds_bucket{worker="balance",le="+Inf"}': "0+1200x60",
    f"edge_loop_blocked_total{BALANCE}": "0 1 2 3 3x57",
    f"edge_requests_cut_total{BALANCE}": "7x60",
    'edge_reloads_total{result="applied"}': "0+1x60",
    'edge_reloads_total{result="refused"}': "2x60",
    'edge_upgrades_total{result="failed"}': "1x60",
    "edge_old_generation": "0 0 1 1 0x57",
    f"process_open_fds{EDGE}": "100x60",
    f"process_max_fds{EDGE}": "20000x60",
    f"process_resident_memory_bytes{EDGE}": "200000000x60",
    'edge_connections_refused_total{listener="tts-master",reason="tls"}': "0+1x60",
    f"edge_log_lines_dropped_total{BALANCE}": "5x60",
    f"edge_spans_dropped_total{BALANCE}": "0x60",
    f"edge_certificate_left_seconds{SPEECH}": "2000000x60",
    f"edge_certificate_reload_failures_total{SPEECH}": "1x60",
    f"endpoint_ready{ENDPOINT}": "1x60",
    'endpoint_attempts_total{pool="csm",endpoint="csm-01",outcome="succeeded"}': "0+100x60",
    'endpoint_attempts_total{pool="csm",endpoint="csm-01",outcome="failed"}': "0+2x60",
    f"endpoint_ejections_total{ENDPOINT}": "1x60",
    'edge_timeouts_total{listener="tts-master",kind="first_byte"}': "4x60",
    'pool_refusals_total{pool="csm",reason="queue_full"}': "10x60",
    'pool_queue_wait_seconds_bucket{pool="csm",le="1.0"}': "0+100x60",
    'pool_queue_wait_seconds_bucket{pool="csm",le="5.0"}': "0+100x60",
    'pool_queue_wait_seconds_bucket{pool="csm",le="+Inf"}': "0+100x60",
    'pool_ttfa_seconds_bucket{pool="csm",le="0.5"}': "0+100x60",
    'pool_ttfa_seconds_bucket{pool="csm",le="5.0"}': "0+100x60",
    'pool_ttfa_seconds_bucket{pool="csm",le="+Inf"}': "0+100x60",
    f"tts_requests_total{SPEECH}": "0+100x60",
    f"tts_requests_failed_total{SPEECH}": "0+1x60",
    'tts_synthesis_duration_seconds_bucket{listener="tts-master",le="1.0"}': "0+100x60",
    'tts_synthesis_duration_seconds_bucket{listener="tts-master",le="10.0"}': "0+100x60",
    'tts_synthesis_duration_seconds_bucket{listener="tts-master",le="+Inf"}': "0+100x60",
    f"pool_underruns_total{CSM}": "2x60",
    f"pool_parts_total{CSM}": "0+100x60",
    ANSWERS.format("done"): "0+100x60",
    ANSWERS.format("failed"): "0+1x60",
    ANSWERS.format("given_up"): "0+20x60",
    FIRST_AUDIO.format("1.0"): "0+90x60",
    FIRST_AUDIO.format("5.0"): "0+100x60",
    FIRST_AUDIO.format("10.0"): "0+100x60",
    FIRST_AUDIO.format("+Inf"): "0+100x60",
    SETTLED.format(""): "0+100x60",
    SETTLED.format("dns_error"): "0+1x60",
    REFUSED.format("limiter_not_seeded"): "3x60",
    f"gateway_requests_inflight{GATEWAY}": "50x60",
    f"gateway_limiter_seeded{GATEWAY}": "0 1x60",
    f"gateway_clock_steps_total{GATEWAY}": "1x60",
    f"gateway_database_reached{GATEWAY}": "1x60",
    f"gateway_journaling{GATEWAY}": "0 1 1 0x58",
    f"gateway_journal_free_bytes{GATEWAY}": "900x60",
    f"gateway_journal_used_bytes{GATEWAY}": "100x60",
    f"gateway_journal_closed{GATEWAY}": "0x60",
    f"gateway_journals_adopted{GATEWAY}": "0 0 0 1x60",
    f"gateway_rows_waiting{GATEWAY}": "20x60",
    f"gateway_owner_absent{GATEWAY}": "0x60",
    f"gateway_keys_waiting{GATEWAY}": "5x60",
    'gateway_budget_alerts_total{threshold="80"}': "0+1x60",
    'gateway_budget_alerts_total{threshold="100"}': "1x60",
    f"gateway_refresh_failures_total{GATEWAY}": "0x30 1x30",
}
# What makes each alert fire, beside others: what is other than well, when (minutes), and which fire then.
ILL: list[tuple[str, Mapping[str, str], int]] = [
    ("EdgeDown", {f"up{EDGE}": "1x10 0x50"}, 13),
    ("EdgePortNotReady", {f"service_health_status{SPEECH}": "1x10 0x50"}, 13),
    ("EdgePortFails", {'http_requests_total{listener="tts-master",status="503"}': "0+20x60"}, 12),
    ("EdgeWorkerFailed", {f"edge_worker_failed{BALANCE}": "0x10 1x50", f"edge_worker_up{BALANCE}": "0x60"}, 12),
    ("EdgeWorkerDown", {f"edge_worker_up{BALANCE}": "1x10 0x50"}, 13),
    ("EdgeWorkerDied", {f"edge_worker_restarts_total{BALANCE}": "0x10 1x50"}, 13),
    ("EdgeLoopLate", {'edge_loop_lag_seconds_bucket{worker="balance",le="0.02"}': "0+1100x60"}, 17),
    ("EdgeLoopBlocked", {f"edge_loop_blocked_total{BALANCE}": "0+2x60"}, 12),
    ("EdgeRequestsCut", {f"edge_requests_cut_total{BALANCE}": "7x10 9x50"}, 12),
    ("EdgeReloadRefused", {'edge_reloads_total{result="refused"}': "2x10 3x50"}, 12),
    ("EdgeUpgradeFailed", {'edge_upgrades_total{result="refused"}': "0x10 1x50"}, 12),
    ("EdgeOldGenerationStays", {"edge_old_generation": "0 2x59"}, 12),
    ("EdgeDescriptorsShort", {f"process_open_fds{EDGE}": "17000x60"}, 6),
    ("EdgeMemoryLarge", {f"process_resident_memory_bytes{EDGE}": "1200000000x60"}, 11),
    (
        "EdgeConnectionsRefused",
        {'edge_connections_refused_total{listener="tts-master",reason="listener_full"}': "0+5x60"},
        8,
    ),
    ("EdgeLogLinesLost", {f"edge_log_lines_dropped_total{BALANCE}": "5x10 900x50"}, 12),
    ("EdgeLogLinesLost", {f"edge_log_reopen_failures_total{BALANCE}": "0x10 1x50"}, 12),
    ("EdgeSpansLost", {f"edge_spans_dropped_total{BALANCE}": "0+10x60"}, 13),
    ("EdgeCertificateExpires", {f"edge_certificate_left_seconds{SPEECH}": "1200000x60"}, 60),
    ("EdgeCertificateExpired", {f"edge_certificate_left_seconds{SPEECH}": "2000000 40000x59"}, 2),
    ("EdgeCertificateNotTaken", {f"edge_certificate_reload_failures_total{SPEECH}": "1x10 2x50"}, 12),
    ("PoolNotReady EndpointNotReady", {f"endpoint_ready{ENDPOINT}": "0x60"}, 11),
    ("EndpointNotReady", {f"endpoint_ready{ENDPOINT}": "0x60", f'endpoint_ready{{{ENDPOINT[1:-2]}2"}}': "1x60"}, 11),
    ("EndpointFails", {'endpoint_attempts_total{pool="csm",endpoint="csm-01",outcome="failed"}': "0+30x60"}, 10),
    ("EndpointFails", {f"endpoint_ejections_total{ENDPOINT}": "0+1x60"}, 15),
    ("EndpointsTooSlow", {'edge_timeouts_total{listener="tts-master",kind="first_byte"}': "0+1x60"}, 12),
    ("PoolRefuses", {'pool_refusals_total{pool="csm",reason="queue_full"}': "0+10x60"}, 12),
    ("PoolQueueLong", {'pool_queue_wait_seconds_bucket{pool="csm",le="1.0"}': "0+50x60"}, 8),
    ("SpeechFails", {f"tts_requests_failed_total{SPEECH}": "0+5x60"}, 8),
    ("SpeechStartsLate", {'pool_ttfa_seconds_bucket{pool="csm",le="0.5"}': "0+50x60"}, 13),
    ("SpeechSlow", {'tts_synthesis_duration_seconds_bucket{listener="tts-master",le="1.0"}': "0+50x60"}, 13),
    ("SpeechHalts", {f"pool_underruns_total{CSM}": "0+2x60"}, 13),
    (
        "GatewayRefusesAll",
        {REFUSED.format("ledger_unavailable"): "_x10 1x50"},
        12,
    ),
    (
        "GatewayRefusesAll",
        {REFUSED.format("limiter_not_seeded"): "3x10 4x50"},
        12,
    ),
    (
        "GatewayServiceFails",
        {SETTLED.format("dns_error"): "0+20x60"},
        8,
    ),
    ("GatewayRequestsPileUp", {f"gateway_requests_inflight{GATEWAY}": "20x40 500x20"}, 46),
    ("GatewayLimiterNotSeeded", {f"gateway_limiter_seeded{GATEWAY}": "0x60"}, 3),
    ("GatewayClockStepped", {f"gateway_clock_steps_total{GATEWAY}": "0x10 1x50"}, 12),
    ("GatewayDatabaseAway", {f"gateway_database_reached{GATEWAY}": "1x10 0x50"}, 13),
    ("GatewayDatabaseSlow", {f"gateway_journaling{GATEWAY}": "1x60"}, 6),
    ("GatewayJournalFills", {f"gateway_journal_free_bytes{GATEWAY}": "900x5 90x55"}, 6),
    ("GatewayJournalClosed", {f"gateway_journal_closed{GATEWAY}": "0x10 1x50"}, 11),
    ("GatewayJournalsLeft", {f"gateway_journals_adopted{GATEWAY}": "0x60"}, 16),
    ("GatewayRowsWait", {f"gateway_rows_waiting{GATEWAY}": "2000x60"}, 2),
    ("GatewayOwnerAbsent", {f"gateway_owner_absent{GATEWAY}": "1x60"}, 11),
    ("GatewayKeysWait", {f"gateway_keys_waiting{GATEWAY}": "200x60"}, 11),
    ("GatewayBudgetSpent", {'gateway_budget_alerts_total{threshold="100"}': "0x10 1x50"}, 12),
    ("GatewayRefreshFails", {f"gateway_refresh_failures_total{GATEWAY}": "0+1x60"}, 16),
    ("ExecutivesFail", {ANSWERS.format("failed"): "0+20x60"}, 8),
    ("ExecutivesLate", {FIRST_AUDIO.format("5.0"): "0+10x60"}, 18),
]


def told(series: Mapping[str, str], minutes: Mapping[int, str]) -> dict[str, object]:
    """Write a case as promtool wants it: which alerts fire at which minute."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts.split()],
            }
            for minute, alerts in minutes.items()
        ],
    }


def promtool(*arguments: str | Path) -> str:
    """Run the tool; return what it says, which is an error if it fails."""
    assert PROMTOOL is not None
    ended = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@with_promtool
def test_the_rules_and_the_configuration_are_sound() -> None:
    """As Prometheus would load them."""
    assert f"SUCCESS: {len(ALERTS)} rules found" in promtool("check", "rules", RULES)
    promtool("check", "config", RULES.with_name("prometheus.yml"))


@with_promtool
def test_each_alert_fires_for_its_reason_and_for_no_other(tmp_path: Path) -> None:
    """Nothing fires while all is well; of what is ill exactly one thing is told, and not before its time."""
    tests = [told(WELL, dict.fromkeys((1, 5, 15, 30, 59), ""))]
    tests += [told({**WELL, **series}, {0: "", minute: alerts}) for alerts, series, minute in ILL]
    # JSON is YAML.
    file = tmp_path / "rules.test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


def test_each_alert_is_tried() -> None:
    """None is left out above."""
    assert {alert for alerts, _, _ in ILL for alert in alerts.split()} == set(ALERTS)


def test_operators_are_told_what_to_do() -> None:
    """The page has a line for each alert, in the order of the file, and for no other."""
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    section = page.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == ALERTS
