"""The Python API: configurations and models by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyclesr_dist import CycleSRError, Model, load_config, load_model


class TestConfig:
    def test_files_and_overrides(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("system: sr_syn\n")
        config = load_config(path, ["train.max_steps=3"])
        assert (config.system, config.train.max_steps) == ("sr_syn", 3)
        assert load_config(str(path)).system == "sr_syn"
        assert load_config().system == "cyclesr"

    @pytest.mark.parametrize(
        ("path", "overrides", "words"),
        [
            ("nowhere.yaml", [], "nowhere.yaml"),
            (3, [], "path = 3"),
            (None, "seed=1", "a list"),
            (None, [1], "a list"),
            (None, 5, "a list"),
            (None, ["seed"], "key.sub=value"),
            (None, ["sead=1"], "nearest: 'seed'"),
            (None, ["scale=5"], "scale = 5"),
        ],
    )
    def test_refusals(self, path: Any, overrides: Any, words: str) -> None:
        with pytest.raises(CycleSRError, match=words):
            load_config(path, overrides)


def test_a_model_is_what_load_model_makes() -> None:
    assert isinstance(load_model("bicubic"), Model)
