"""Descriptions of scores: what they may say, and who reads them."""

from __future__ import annotations

from typing import get_args

import pytest

from cyclesr_dist.config.metrics import METRICS, MetricName, MetricSpec, metric_of
from cyclesr_dist.config.schema import load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.search.config import is_better, mode, worst


def test_the_words_of_the_schema_are_the_names_of_the_descriptions() -> None:
    assert get_args(MetricName) == tuple(METRICS)
    for name in METRICS:
        assert load(None, [f"validate.metric={name}"]).validate.metric == name


@pytest.mark.parametrize("name", METRICS)
def test_a_search_turns_away_from_trials_that_failed(name: str) -> None:
    spec = metric_of("metric", name)
    assert mode(name) == ("max" if spec.larger_is_better else "min")
    assert not is_better(name, worst(name), 0.5)
    assert spec.title
    assert spec.text.endswith(".")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"needs": ("pears",)}, "pears.*allowed: pairs, sharp, translator, estimate"),
        ({"needs": "pairs"}, "allowed: pairs"),
        ({"worst": float("inf")}, "allowed: a finite number"),
        ({"worst": None}, "allowed: a finite number"),
    ],
)
def test_a_description_that_cannot_be_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MetricSpec("mine", **settings)  # type: ignore[arg-type]
