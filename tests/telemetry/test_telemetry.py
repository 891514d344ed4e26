"""Metrics, rules and dashboard agree, and Prometheus's own tool accepts them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import Config, Telemetry, load
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.telemetry import alerts, dashboard, definitions, monitoring
from cyclesr_dist.telemetry.endpoint import Endpoint, Pusher
from cyclesr_dist.telemetry.prometheus import Metrics, run_info
from cyclesr_dist.telemetry.record import StepRecord, ValidationRecord
from cyclesr_dist.telemetry.series import Series
from cyclesr_dist.telemetry.targets import address

DOCS = Path(__file__).parents[2] / "docs/monitoring"
ALL = (*definitions.TRAINING, *definitions.SEARCH)
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def exported() -> set[str]:
    return {name for d in ALL for name in ((d.bucket, d.sum, d.count) if d.kind == "histogram" else (str(d),))}


def names(query: str) -> set[str]:
    return set(re.findall(r"\bcyclesr[a-z_:0-9]*", re.sub(r'"[^"]*"', "", query)))


def recorded() -> set[str]:
    return {rule["record"] for group in alerts.rule_groups() for rule in group["rules"] if "record" in rule}


def test_names_follow_the_conventions() -> None:
    assert len({str(d) for d in ALL}) == len(ALL)
    for d in ALL:
        assert d.name.startswith("cyclesr_")
        assert d.name.endswith("_total") == (d.kind == "counter")
        assert bool(d.buckets) == (d.kind == "histogram")
        assert not d.values or len(d.labels) == 1


def test_every_definition_is_in_one_of_the_groups() -> None:
    defined = {d for d in vars(definitions).values() if isinstance(d, definitions.Definition)}
    assert defined == set(ALL)


def test_queries_name_only_what_is_exported() -> None:
    shown = [query for _, query in dashboard.queries()]
    rules = [rule["expr"] for group in alerts.rule_groups() for rule in group["rules"]]
    assert len(shown) > 30
    for query in (*shown, *rules):
        assert names(query)
        assert names(query) <= exported() | recorded(), query


def test_the_dashboard_shows_every_metric_of_a_training() -> None:
    shown = set().union(*(names(query) for _, query in dashboard.queries()))
    not_shown = {str(d) for d in definitions.TRAINING if not shown & {str(d), d.bucket, d.sum}}
    assert not_shown == {str(definitions.LAST_STEP)}  # its age is an alert


def test_files_of_the_documentation_are_what_the_code_makes() -> None:
    for name, text in monitoring.files().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, "run: cyclesr monitoring --out docs/monitoring"


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.dashboard()["panels"]:
        p = panel["gridPos"]
        cells = {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
        assert not cells & taken, panel["title"]
        assert p["x"] + p["w"] <= 24
        taken |= cells


def test_generating_needs_no_torch() -> None:
    code = "import sys, cyclesr_dist.telemetry.monitoring as m; m.files(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_writes_rules_by_other_labels(tmp_path, capsys) -> None:
    assert cyclesr(["monitoring", "--out", str(tmp_path / "out"), "--by", "namespace, run"]) == 0
    rules = yaml.safe_load((tmp_path / "out/rules.yml").read_text())
    alert = rules["groups"][1]["rules"][0]
    assert "by (namespace, run)" in alert["expr"]
    assert "{{ $labels.namespace }} {{ $labels.run }}" in alert["annotations"]["summary"]
    assert json.loads((tmp_path / "out/dashboard.json").read_text())["uid"] == "cyclesr-training"
    assert cyclesr(["monitoring", "--out", str(tmp_path), "--by", "a) or (b"]) == 2
    (tmp_path / "file").write_text("")
    assert cyclesr(["monitoring", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


# Rules, by Prometheus's own unit tests


def promtool(folder: Path, *command: str, **files: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text)
    return subprocess.run(["promtool", *command], cwd=folder, capture_output=True, text=True, check=False)


HEALTHY = {
    f'{definitions.STEPS}{{run="a",rank="0"}}': "0+60x60",
    f'{definitions.LAST_STEP}{{run="a",rank="0"}}': "0+60x60",
    f'{definitions.LAST_CHECKPOINT}{{run="a",rank="0"}}': "0+60x60",
    f'{definitions.WORLD_SIZE}{{run="a",rank="0"}}': "2x60",
    f'{definitions.WORLD_SIZE}{{run="a",rank="1"}}': "2x60",
    f'{definitions.REMAINING}{{run="a",rank="0"}}': "9000-60x60",
    f'{definitions.DATA_WAIT_SECONDS.sum}{{run="a",rank="0"}}': "0+1x60",
    f'{definitions.DATA_WAIT_SECONDS.sum}{{run="a",rank="1"}}': "0+1x60",
    f'{definitions.STEP_SECONDS.sum}{{run="a",rank="0"}}': "0+59x60",
    f'{definitions.STEP_SECONDS.sum}{{run="a",rank="1"}}': "0+59x60",
    f'{definitions.FORWARD_SECONDS}{{run="a",rank="0"}}': "0+20x60",
    f'{definitions.FORWARD_SECONDS}{{run="a",rank="1"}}': "0+22x60",
    f'{definitions.SKIPPED}{{run="a",rank="0",reason="not_finite"}}': "0x60",
    f'{definitions.DRIFT}{{run="a",rank="0",kind="mean"}}': "-0.01x60",
    f'{definitions.DRIFT}{{run="a",rank="0",kind="std"}}': "0.2x60",
    f'{definitions.LOSS}{{run="a",rank="0",term="d_r"}}': "0.2x60",
    f'{definitions.LOSS}{{run="a",rank="0",term="mse"}}': "0.0001x60",
}
GONE = {key: "2x30" if "world_size" in key else value.replace("x60", "x30") for key, value in HEALTHY.items()}
RANK_1 = f'{definitions.WORLD_SIZE}{{run="a",rank="1"}}'
CASES: dict[str, tuple[dict[str, str], set[str]]] = {
    "healthy": ({}, set()),
    "stalled": ({f'{definitions.LAST_STEP}{{run="a",rank="0"}}': "0+60x10 600x50"}, {"CyclesrNoProgress"}),
    "starved": (
        {f'{definitions.DATA_WAIT_SECONDS.sum}{{run="a",rank="{rank}"}}': "0+30x60" for rank in (0, 1)},
        {"CyclesrDataStarvation"},
    ),
    "one rank is slow": ({f'{definitions.FORWARD_SECONDS}{{run="a",rank="1"}}': "0+30x60"}, {"CyclesrStraggler"}),
    "one rank is starved": (
        {
            f'{definitions.DATA_WAIT_SECONDS.sum}{{run="a",rank="1"}}': "0+16x60",
            f'{definitions.STEP_SECONDS.sum}{{run="a",rank="1"}}': "0+44x60",
        },
        {"CyclesrStarvedRank"},
    ),
    "nan": (
        {f'{definitions.SKIPPED}{{run="a",rank="0",reason="not_finite"}}': "0x57 1x2"},
        {"CyclesrBadGradients"},
    ),
    "darker": ({f'{definitions.DRIFT}{{run="a",rank="0",kind="mean"}}': "-0.05x60"}, {"CyclesrColourDrift"}),
    "tinted": ({f'{definitions.DRIFT}{{run="a",rank="0",kind="colour"}}': "0.05x60"}, {"CyclesrColourDrift"}),
    "saturated": (
        {f'{definitions.LOSS}{{run="a",rank="0",term="d_r"}}': "0.001x60"},
        {"CyclesrDiscriminatorSaturated"},
    ),
    "unsaved": ({f'{definitions.LAST_CHECKPOINT}{{run="a",rank="0"}}': "-9000x60"}, {"CyclesrCheckpointTooOld"}),
    "one rank gone": ({RANK_1: "2x30"}, {"CyclesrRankMissing"}),
    "all ranks gone": (GONE, {"CyclesrRankMissing"}),
    "ended": (GONE | {f'{definitions.REMAINING}{{run="a",rank="0"}}': "1800-60x30"}, set()),
}


@needs_promtool
def test_each_rule_fires_for_its_cause_and_no_other(tmp_path) -> None:
    """All alerts of every case, an hour in, at the usual limits."""
    every = [rule["alert"] for rule in alerts.rule_groups()[1]["rules"]]
    assert set(every) == set().union(*(expected for _, expected in CASES.values()))
    tests = []
    for name, (changes, expected) in CASES.items():
        series = changes if name in ("all ranks gone", "ended") else HEALTHY | changes

        wanted = [{"eval_time": "59m", "alertname": a, "exp_alerts": []} for a in every if a not in expected]
        tests.append({"name": name, "interval": "1m", "alert_rule_test": wanted, "input_series": as_series(series)})
        # That it fires is asked for by a count, so that labels and texts need not be repeated here.
        fires = [
            {
                "expr": f'count(ALERTS{{alertname="{a}",alertstate="firing"}}) > bool 0',
                "eval_time": "59m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for a in expected
        ]
        tests.append(
            {"name": f"{name} fires", "interval": "1m", "promql_expr_test": fires, "input_series": as_series(series)}
        )
    suite = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    done = promtool(
        tmp_path, "test", "rules", "suite.yml", rules=monitoring.files()["rules.yml"], suite=yaml.safe_dump(suite)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def as_series(series: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


@needs_promtool
def test_promtool_accepts_the_rules(tmp_path) -> None:
    done = promtool(tmp_path, "check", "rules", "rules.yml", rules=monitoring.files()["rules.yml"])
    assert done.returncode == 0, done.stderr


# What a rank exports


def metrics(**telemetry: Any) -> Metrics:
    config = Config(telemetry=Telemetry(**telemetry))
    return Metrics(config.telemetry, config.optim, run_info(config), World(), "mine", 100)


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    m = metrics()
    fill(m)
    text = generate_latest(m.series.registry) + generate_latest(Series(definitions.SEARCH).registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr


def fill(m: Metrics) -> None:
    m.started(0, 2)
    with m.timed("step"):
        m.stepped(1, "joint", ("a_b_0_0", "a_b_8_0", "c_0_0"), ("d_0_0",))
    m.gradients({"g": 60.0, "d": 3.0})
    m.gradients({"g": float("nan")})
    m.skipped("not_finite")
    numbers = {
        "losses": {"mse": 0.5},
        "drift": {"mean": -0.1},
        "network_norms": {"g_l2h": 2.0},
        "loss_scales": {"g": 1.0},
    }
    m.logged(StepRecord(1, 10, 3, "joint", 120.0, 7.5, 0.5, **numbers, memory_bytes=m.memory()))
    m.validated(ValidationRecord(1, {"psnr": 23.0}))
    m.checkpoint_written(0.2)
    m.corrupt(1)
    m.rolled_back()


def test_values_arrive_under_run_and_rank() -> None:
    m = metrics()
    fill(m)

    def value(definition: definitions.Definition, suffix: str = "", **labels: str) -> float | None:
        return m.series.registry.get_sample_value(f"{definition}{suffix}", {"run": "mine", "rank": "0", **labels})

    assert value(definitions.LOSS, term="mse") == 0.5
    assert value(definitions.PHASE, phase="joint") == 1
    assert value(definitions.PHASE, phase="pretrain") == 0
    assert value(definitions.CLIPPED, player="g") == 1  # at 50; the nan is no clipping
    assert value(definitions.CLIPPED, player="d") == 0
    assert value(definitions.SKIPPED, reason="not_finite") == 1
    assert value(definitions.SKIPPED, reason="rollback") == 0
    assert value(definitions.PATCHES, domain="hr") == 3
    assert value(definitions.PHOTOGRAPHS, domain="hr") == 2
    assert value(definitions.STEP_SECONDS, "_count") == 1
    assert value(definitions.LEARNING_RATE, group="sr") == 0.5e-4
    assert value(definitions.RESTARTS) == 2
    assert set(m.seconds()) == {"step"}
    assert m.seconds() == {}


def test_the_wait_for_each_item_is_counted() -> None:
    m = metrics()
    assert list(m.waiting(iter([1, 2]))) == [1, 2]
    assert set(m.seconds()) == {"data_wait"}
    labels = {"run": "mine", "rank": "0"}
    assert m.series.registry.get_sample_value(f"{definitions.DATA_WAIT_SECONDS}_count", labels) == 2


# Endpoints


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of this machine at which somebody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_a_taken_port_is_an_error_that_names_it(taken) -> None:
    with pytest.raises(InputError, match=rf"telemetry\.port: cannot listen on 127\.0\.0\.1:{taken}.*port_search"):
        metrics(port=taken)
    with pytest.raises(InputError, match="cannot listen"):
        metrics(port=taken, host="192.0.2.1", port_search=5)  # an address of no machine


def test_a_port_beyond_the_last_one_is_an_error() -> None:
    with pytest.raises(InputError, match=r"telemetry\.port = 65535: rank 1 of this machine would listen on 65536"):
        Endpoint(Telemetry(port=65535, port_search=5), 1, Series((definitions.STEP,)).registry)


def test_port_search_takes_one_behind(taken) -> None:
    m = metrics(port=taken, port_search=20)
    assert taken < m.endpoint.port <= taken + 20
    assert m.address == f"127.0.0.1:{m.endpoint.port}"
    m.close()
    again = Endpoint(Telemetry(port=taken + 1, port_search=20), 0, m.series.registry)
    again.close()


def test_addresses_are_those_that_others_can_reach() -> None:
    assert address("127.0.0.1", 9400) == "127.0.0.1:9400"
    assert address("0.0.0.0", 9400) == f"{socket.gethostname()}:9400"
    assert address("fd00::1", 9400) == "[fd00::1]:9400"
    assert address("127.0.0.1", 0) == ""


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("telemetry.push_gateway=gateway:9091", "allowed: a URL"),
        ("telemetry.port_search=-1", "telemetry.port_search = -1"),
        ("telemetry.push_every_seconds=0", "telemetry.push_every_seconds' was removed"),
    ],
)
def test_bad_settings_are_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(None, [override])


def test_the_push_gateway_gets_the_metrics_and_a_dead_one_costs_one_warning() -> None:
    got: list[tuple[str, bytes]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:  # the name that http.server calls
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    said: list[str] = []
    series = Series((definitions.STEP,), {"run": "mine", "rank": "0"})
    series.set(definitions.STEP, 7)
    url = f"http://127.0.0.1:{server.server_port}"
    pusher = Pusher(url, {"run": "mine"}, series.registry, said.append)
    pusher.close()
    server.shutdown()
    server.server_close()
    ((path, body),) = got
    assert path == "/metrics/job/cyclesr/run/mine"
    assert b'cyclesr_step{rank="0",run="mine"} 7.0' in body
    assert not said
    assert not [name for name in names(body.decode()) if name.endswith("_created")]
    dead = Pusher(url, {"run": "mine"}, series.registry, said.append, every_seconds=0.01)
    dead.close()
    assert len(said) == 1
    assert "does not take the metrics" in said[0]
