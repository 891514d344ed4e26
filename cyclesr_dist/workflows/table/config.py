"""Configuration of `cyclesr table` and `cyclesr ablate`: which runs, on which photographs, with one training config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from cyclesr_dist.config.credentials import refuse_signatures
from cyclesr_dist.config.marks import Amount, Count, EachOnce, PathToRead, Positive, Range, check_marks
from cyclesr_dist.config.metrics import PerceptualName
from cyclesr_dist.config.reader import read, to_dict
from cyclesr_dist.config.schema import (
    MEASURED,
    MEASURED_DEFAULTS,
    Config,
    Degrade,
    Protocol,
    SRNet,
    System,
    Track,
    check,
)
from cyclesr_dist.config.systems import SYSTEMS
from cyclesr_dist.errors import ConfigError

Row = Literal["bicubic"] | System


@dataclass(frozen=True)
class TrackData:
    """One track. Folders that are empty are simulated from the sharp photographs at these levels."""

    lr: PathToRead = ""
    """Folder of LR photographs to train on, or a pattern; DIV2K's own, for instance. Empty: made of `photos`."""
    valid_lr: PathToRead = ""
    """LR photographs of `valid_hr`, where `lr` is given."""
    test_lr: PathToRead = ""
    """LR photographs of `test_hr`, where `lr` is given."""
    pairs_hr: PathToRead = ""
    """HR partners of `lr`, for sr_paired; empty: they are among `photos`."""
    degrade: Degrade = field(default_factory=Degrade)
    """Levels of the simulated track."""
    mse: Amount | None = None
    """`weights.mse` on this track; null: that of `run`."""
    sr: SRNet | None = None
    """g_l2h on this track; null: that of `run`. The paper has VDSR on NTIRE 2017 and SRResNet on NTIRE 2018."""


@dataclass(frozen=True)
class Tracks:
    """The tracks of the table; null leaves one out."""

    unknown: TrackData | None = None
    """NTIRE 2017 track 2: one fixed kernel."""
    mild: TrackData | None = None
    """NTIRE 2018 track 2: motion blur and noise of one level."""
    wild: TrackData | None = None
    """NTIRE 2018 track 4: the same with levels drawn per image."""
    camera: TrackData | None = None
    """Not in the paper: what a camera does."""

    def chosen(self) -> dict[Track, TrackData]:
        tracks: dict[Track, TrackData | None] = {
            "unknown": self.unknown,
            "mild": self.mild,
            "wild": self.wild,
            "camera": self.camera,
        }
        return {name: track for name, track in tracks.items() if track is not None}


@dataclass(frozen=True)
class Table:
    """Of a table: which systems, tracks and seeds, on which photographs, with which training configuration."""

    photos: PathToRead = ""
    """Folder of sharp photographs to train on, or a pattern (docs/folders.md), as for every other folder. With
    simulated tracks the HR domain and the LR domain are different parts of them, see `run.shards.hr_region` and
    `lr_region`, or `hr_scenes` and `lr_scenes`."""
    valid_hr: PathToRead = ""
    """Folder of sharp photographs for validation; empty: every `valid_every`-th of `photos`, which is then left out of
    training."""
    valid_every: Annotated[int, Range(minimum=2)] = 8
    """See `valid_hr`."""
    test_hr: PathToRead = ""
    """Folder of sharp photographs for the scores of the table. Nothing is chosen on them."""
    systems: Annotated[tuple[Row, ...], EachOnce()] = (
        "bicubic",
        "sr_syn",
        "sr_paired",
        "cyclegan",
        "cycle_sr_separate",
        "cyclesr",
        "cyclesrgan",
    )
    """Rows of the table."""
    seeds: Annotated[tuple[Count, ...], EachOnce()] = (0, 1, 2)
    """Every run is made with each; the table has means and their spread."""
    tracks: Tracks = field(default_factory=Tracks)
    wild_variants: Annotated[int, Range(minimum=1, maximum=4)] = 4
    """Of the four wild LR files a scene, so many are validated and scored on."""
    protocol: Protocol = "plain"
    """Of the table's scores; validation has `run.validate.protocol`."""
    scores: tuple[PerceptualName, ...] = ()
    """Perceptual scores of the table, beside those of `protocol` (docs/scores.md); the first is also drawn against
    distortion."""
    pictures: Count = 4
    """Test photographs shown in comparison strips."""
    sweep_mse: Annotated[tuple[Amount, ...], EachOnce()] = (1.0, 10.0, 100.0, 1000.0)
    """`cyclesr ablate`: the values of weights.mse."""
    cpus_per_run: Positive = 1
    """What a run is given by Ray, and its number of threads."""
    gpus_per_run: Amount = 0.0
    """The same of GPUs; 0.5: two runs share one."""
    run: Config = field(default_factory=Config)
    """Configuration of every run. The table sets system, seed, track and what lies below `data` itself."""
    own: dict[str, Any] = field(default_factory=dict)
    """Settings of single rows, on top of `run` and of the track's: `{cincgan: {weights.advsr: 1.0}}`. Allowed are the
    keys below weights, optim, nets, perceptual and pool, and train.pretrain_epochs: what belongs to a method. Budget
    and data are the same for all."""

    @property
    def trained(self) -> tuple[System, ...]:
        """The rows that are runs."""
        return tuple(name for name in self.systems if name != "bicubic")


_OF_A_METHOD = ("weights.", "optim.", "nets.", "perceptual.", "pool.")
_ALSO = "train.pretrain_epochs"


def with_own(table: Table, system: str, config: Config) -> Config:
    """`config` with the settings of the row `system`. Raises ConfigError naming row, key and what is allowed."""
    overrides = table.own.get(system, {})
    if not isinstance(overrides, dict):
        raise ConfigError(f"own.{system} = {overrides!r:.80} is not a mapping of keys of `run` to their values")
    for key in overrides:
        if not key.startswith(_OF_A_METHOD) and key != _ALSO:
            allowed = ", ".join(f"{section}*" for section in _OF_A_METHOD)
            raise ConfigError(f"own.{system} sets {key}; allowed: {allowed}, {_ALSO}, each as one key with dots")
    found = config
    for key, value in overrides.items():
        try:
            found = read(Config, None, [f"{key}={json.dumps(value)}"], found)
        except ConfigError as error:
            raise ConfigError(f"own.{system}: {error}") from error
    if found.nets.translator.kind == MEASURED != config.nets.translator.kind:
        raise ConfigError(
            f"own.{system} sets nets.translator.kind={MEASURED}, which other weights belong to; set it for all rows "
            "(run.nets.translator.kind), and another kind for those that have one of their own"
        )
    return found


def load_table(path: Path, overrides: Sequence[str] = ()) -> Table:
    """Read a table's YAML file with overrides. Raises ConfigError naming file, key, value and what is allowed."""
    table = read(Table, path, overrides)
    if table.run.nets.translator.kind == MEASURED:
        table = read(Table, path, overrides, Table(run=MEASURED_DEFAULTS))
    check_marks(table)
    refuse_signatures(to_dict(table), "a folder, or a URL without one: a table's runs are written down as they are")
    check(table.run)
    for system in table.own:
        if ":" not in system and system not in SYSTEMS:
            raise ConfigError(
                f"own.{system}: no trained system; allowed: {', '.join(SYSTEMS)}, or package.module:Name of yours"
            )
        config = replace(with_own(table, system, table.run), system=cast(System, system))
        try:
            check_marks(config)
            if system in table.systems:  # else what is set for all rows may be nothing that it could be trained with
                check(config)
        except ConfigError as error:
            raise ConfigError(f"own.{system}: {error}") from error
    if not table.tracks.chosen():
        raise ConfigError(f"tracks is empty; allowed: one or more of {', '.join(f.name for f in fields(Tracks))}")
    for name in ("photos", "test_hr"):
        if not getattr(table, name):
            raise ConfigError(f"{name} is empty; give a folder of sharp photographs")
    for name, track in table.tracks.chosen().items():
        if bool(track.lr) != bool(track.test_lr):
            raise ConfigError(f"tracks.{name} has only one of lr and test_lr; give both, or none for a simulated track")
        if track.lr and table.valid_hr and not track.valid_lr:
            raise ConfigError(f"tracks.{name}.valid_lr is empty; give the LR photographs of valid_hr")
        if track.lr and not table.valid_hr:
            raise ConfigError(f"tracks.{name}.lr needs valid_hr: with given LR no photograph is set aside by itself")
    return table
