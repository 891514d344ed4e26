"""A plain Prometheus exporter for each rank, with a registry of its own (no multiprocess mode: client_python#1033)."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from cyclesr_dist.config import Telemetry
from cyclesr_dist.errors import InputError


class Metrics:
    """`/metrics` on `telemetry.port + rank`; with port 0 nothing listens."""

    def __init__(self, telemetry: Telemetry, rank: int) -> None:
        registry = CollectorRegistry()
        self.steps = Counter("cyclesr_steps", "Training steps done by this process", registry=registry)
        self.step = Gauge("cyclesr_step", "Steps since the start of training", registry=registry)
        self.loss = Gauge("cyclesr_loss", "Unweighted loss term, mean over ranks", ["term"], registry=registry)
        self.grad_norm = Gauge("cyclesr_grad_norm", "Gradient norm before clipping", ["player"], registry=registry)
        self.throughput = Gauge("cyclesr_patches_per_second", "HR patches a second, all ranks", registry=registry)
        self.validation = Gauge("cyclesr_validation", "Score on held-out photographs", ["score"], registry=registry)
        self.corrupt_samples = Counter(
            "cyclesr_corrupt_samples", "Samples that no rank could read, each counted once", registry=registry
        )
        self._server = None
        if telemetry.port:
            port = telemetry.port + rank
            try:
                self._server, _ = start_http_server(port, telemetry.host, registry)
            except OSError as error:
                raise InputError(f"telemetry.port: cannot listen on {telemetry.host}:{port}: {error}") from error

    def logged(
        self, step: int, terms: Mapping[str, float], norms: Mapping[str, float], patches_per_second: float
    ) -> None:
        self.step.set(step)
        self.throughput.set(patches_per_second)
        for term, value in terms.items():
            self.loss.labels(term).set(value)
        for player, norm in norms.items():
            self.grad_norm.labels(player).set(norm)

    def validated(self, scores: Mapping[str, float]) -> None:
        for score, value in scores.items():
            self.validation.labels(score).set(value)

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
