"""From definitions to a registry of prometheus-client, one a process (no multiprocess mode: client_python#1033)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from cyclesr_dist.telemetry.definitions import Definition

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each of most, that nothing reads

Metric = Counter | Gauge | Histogram


class Series:
    """The metrics of one process. `shared` labels stand on every series."""

    def __init__(self, definitions: Iterable[Definition], shared: Mapping[str, str] | None = None) -> None:
        self.registry = CollectorRegistry()
        self.shared = tuple((shared or {}).values())
        self._bound: dict[tuple[Definition, tuple[str, ...]], Metric] = {}
        self._metrics = {d: _make(d, tuple(shared or {}), self.registry) for d in definitions}
        for definition in self._metrics:
            if not definition.labels:
                self._series(definition, ())
            for value in definition.values:
                self._series(definition, (value,))

    def set(self, definition: Definition, value: float, *labels: str) -> None:
        """A gauge's new value. `labels` are values of the definition's own labels, in their order."""
        self._series(definition, labels).set(value)  # type: ignore[union-attr]  # the definition says which it is

    def add(self, definition: Definition, amount: float, *labels: str) -> None:
        """To a counter."""
        self._series(definition, labels).inc(amount)  # type: ignore[union-attr]

    def observe(self, definition: Definition, value: float, *labels: str) -> None:
        """By a histogram."""
        self._series(definition, labels).observe(value)  # type: ignore[union-attr]

    def _series(self, definition: Definition, labels: tuple[str, ...]) -> Metric:
        key = definition, labels
        if key not in self._bound:
            metric = self._metrics[definition]
            values = (*self.shared, *labels)
            self._bound[key] = metric.labels(*values) if values else metric
        return self._bound[key]


def _make(d: Definition, shared: tuple[str, ...], registry: CollectorRegistry) -> Metric:
    labels = (*shared, *d.labels)
    match d.kind:
        case "counter":
            return Counter(d.name.removesuffix("_total"), d.help, labels, registry=registry)
        case "gauge":
            return Gauge(d.name, d.help, labels, registry=registry)
        case "histogram":
            return Histogram(d.name, d.help, labels, buckets=d.buckets, registry=registry)
