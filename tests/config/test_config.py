"""Configuration: every mistake gets one line that names file, line, key, value and what is allowed."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclesr_dist.config.reader import check_range, dump, to_dict, write_resolved
from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.search.config import load_search
from cyclesr_dist.workflows.table.config import load_table

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
PAPER = [path for path in CONFIGS if path.stem.startswith("ntire") and not path.stem.endswith("_estimated")]


def test_all_configs_are_there() -> None:
    tracks = {"ntire17_t2", "ntire18_t2", "ntire18_t4"}
    papers = {*tracks, *(f"{track}_gan" for track in tracks)}
    assert {path.stem for path in PAPER} == papers
    assert {path.stem for path in CONFIGS} >= {"demo", "own_photos", *(f"{name}_estimated" for name in papers)}
    tables = {path.stem for path in CONFIGS if path.stem.startswith("table_")}
    assert tables == {f"table_{name}" for name in ("small", "paper", "ntire20_t1", "realsr", "drealsr")}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    if path.stem.startswith("table_"):
        assert load_table(path, ["photos=photos", "test_hr=test"]).tracks.chosen()
    elif path.stem.startswith("tune_"):
        assert load_search(path).domains
    else:
        assert isinstance(load(path), Config)


def test_a_run_needs_a_pixel_wise_loss() -> None:
    with pytest.raises(ConfigError, match=r"weights\.l1"):
        load(None, ["weights.mse=0"])
    assert load(None, ["weights.mse=0", "weights.l1=10"]).weights.l1 == 10
    assert load(None, ["weights.mse=0", "system=cyclegan"])


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_paper_configs_hold_the_papers_values(path: Path) -> None:
    c = load(path)
    gan, ntire17 = path.stem.endswith("_gan"), path.stem.startswith("ntire17")
    assert c.system == ("cyclesrgan" if gan else "cyclesr")
    assert (c.scale, c.global_batch, c.ema_decay) == (4, 32, 0)
    assert (c.weights.cyc, c.weights.id, c.weights.percep, c.weights.advsr) == (10, 5, 1, 0.05)
    assert c.weights.mse == (1e3 if ntire17 else 1e2)
    assert (c.train.epochs, c.train.pretrain_epochs, c.train.constant_epochs) == (200, 5, 100)
    assert (c.optim.lr_cyclegan, c.optim.lr_sr) == (2e-4, 1e-4)
    assert (c.optim.beta1, c.optim.beta2, c.optim.clip_norm) == (0.9, 0.999, 50)
    assert (c.shards.patch, c.shards.stride, c.pool.size) == (120, 60, 50)
    assert (c.nets.sr.kind, c.nets.sr.blocks) == (("vdsr", 20) if ntire17 else ("srresnet", 16))
    assert (c.nets.translator.kind, c.nets.translator.blocks, c.nets.d_lr.layers) == ("resnet", 9, 3)
    assert c.track == {"ntire17_t2": "unknown", "ntire18_t2": "mild", "ntire18_t4": "wild"}[path.stem[:10]]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_variants_differ_from_the_papers_in_the_translator_and_its_weights_alone(path: Path) -> None:
    paper, variant = load(path), load(path.with_name(f"{path.stem}_estimated.yaml"))
    assert variant.nets.translator.kind == "degradation"
    nets = replace(variant.nets, translator=paper.nets.translator)
    beyond = ("adv", "cyc", "cyc_backward", "id", "spectrum", "sr_to_s2r")
    weights = replace(variant.weights, **{name: getattr(paper.weights, name) for name in beyond})
    assert replace(variant, nets=nets, weights=weights) == paper


def test_a_measured_translator_has_defaults_of_its_own(tmp_path: Path) -> None:
    kind = "nets.translator.kind=degradation"
    assert load(None, [kind]).weights.id == 0
    assert load(None, [kind]).weights.mse == load(None).weights.mse
    assert load(None, [kind, "weights.id=3"]).weights.id == 3
    path = tmp_path / "x.yaml"
    path.write_text("weights: {cyc: 2.0}\nnets: {translator: {kind: degradation, channels: 8}}\n")
    config = load(path)
    assert (config.weights.cyc, config.weights.id, config.nets.translator.channels) == (2, 0, 8)
    resolved = tmp_path / "resolved.yaml"
    write_resolved(config, resolved)
    assert load(resolved) == config


MISTAKES = {
    "weights:\n  msee: 3\n": ["x.yaml:2", "weights.msee", "weights.mse"],
    "seed: 1\nglobal_batch: many\n": ["x.yaml:2", "global_batch", "many", "integer"],
    "seed: true\n": ["x.yaml:1", "seed", "integer"],
    "weights: {mse: yes}\n": ["x.yaml:1", "weights.mse", "number"],
    "weights: {mse: .nan}\n": ["weights.mse"],
    "weights: {mse: -1}\n": ["weights.mse = -1", "at least 0"],
    "system: cyclegun\n": ["x.yaml:1", "system", "cyclegun", "cyclesrgan"],
    "seed: 1\nseed: 2\n": ["x.yaml:2", "seed"],
    "weights: 3\n": ["x.yaml:1", "weights"],
    "- a\n": ["x.yaml"],
    "a: [\n": ["x.yaml"],
    "a: &x 1\nb: *x\n": ["x.yaml:2"],
    "seed: !!python/object:os.system 1\n": ["x.yaml:1"],
    "scale: 5\n": ["scale = 5", "2, 3, 4, 8"],
    "train: {epochs: 3}\n": ["train.pretrain_epochs = 5", "at most 3"],
    "zero_stage: 4\n": ["zero_stage = 4", "at most 3"],
    "nets: {sr: {bicubic_skip: true}}\n": ["nets.sr.bicubic_skip", "compact"],
    "system: cyclesrgan\nweights: {percep: 0, advsr: 0}\n": ["cyclesrgan", "cyclesr"],
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text.replace("\n", " "))
def test_mistakes_in_a_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    message = str(error.value)
    assert "\n" not in message
    for word in MISTAKES[text]:
        assert word in message, message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("global_bach=4", ["global_bach", "global_batch"]),
        ("weights.mse=lots", ["weights.mse", "lots"]),
        ("weights", ["weights", "="]),
        ("weights=3", ["weights"]),
        ("nets.sr.kind=unet", ["nets.sr.kind", "unet", "srresnet"]),
        ("data.log_keys=3", ["data.log_keys", "3"]),
    ],
)
def test_mistakes_in_overrides(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, [override])
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_files_that_are_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load(path)


def test_overrides() -> None:
    c = load(
        None, ["weights.mse=1e2", "weights.mse=2e1", "weights.cyc_backward=0", "data.hr=/a b", "data.log_keys=true"]
    )
    assert (c.weights.mse, c.weights.cyc_backward, c.data.hr, c.data.log_keys) == (20.0, 0.0, "/a b", True)
    assert load(None, ["weights.cyc_backward="]).weights.cyc_backward is None
    assert load(None, ["data.hr="]).data.hr == ""
    assert isinstance(load(None, ["weights.mse=3"]).weights.mse, float)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# nothing\n")
    assert load(tmp_path / "x.yaml") == Config() == load()


def test_floats_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("optim: {lr_sr: 1e-4, lr_cyclegan: 2.0e-4, clip_norm: 50}\n")
    c = load(tmp_path / "x.yaml")
    assert (c.optim.lr_sr, c.optim.lr_cyclegan, c.optim.clip_norm) == (1e-4, 2e-4, 50.0)


@settings(max_examples=50, deadline=None)
@given(
    mse=st.floats(0, 1e6, exclude_min=True),
    backward=st.none() | st.floats(0, 100),
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    seed=st.integers(0, 2**40),
)
def test_what_is_written_reads_back_equal(tmp_path_factory, mse, backward, text, seed) -> None:
    c = load(None, [f"weights.mse={mse!r}", f"seed={seed}"])
    assert c.weights.mse == mse
    raw = to_dict(c)
    raw["weights"]["cyc_backward"] = backward
    raw["data"]["hr"] = text
    path = tmp_path_factory.mktemp("config") / "x.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    read = load(path)
    assert (read.weights.cyc_backward, read.data.hr) == (backward, text)
    write_resolved(read, path)
    assert load(path) == read
    assert path.read_text(encoding="utf-8") == dump(read)


def outcome(path: Path) -> str:
    """`config`, `error` for a ConfigError of one line; anything else is raised."""
    try:
        load(path)
    except ConfigError as error:
        return "error" if "\n" not in str(error) else str(error)
    return "config"


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["seed", "weights", "mse", "nets", "sr", "x"]) | st.text(max_size=5), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(yaml_values)
def test_fuzz_structures_end_in_a_config_or_a_config_error(tmp_path_factory, value) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    assert outcome(path) in ("config", "error")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_fuzz_bytes_end_in_a_config_or_a_config_error(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_bytes(data)
    assert outcome(path) in ("config", "error")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["", "seed=", "weights.mse=", "nets=", "data.hr="]), st.text(max_size=20))
def test_fuzz_overrides_end_in_a_config_or_a_config_error(key, value) -> None:
    try:
        load(None, [key + value])
    except ConfigError:
        return


def test_reading_a_config_needs_no_torch() -> None:
    code = "import sys, cyclesr_dist.config.schema; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_json_beyond_the_basic_plane() -> None:
    assert load(None, ['data.hr="\\ud83d\\ude00"']).data.hr == "😀"
    with pytest.raises(ConfigError, match=r"data\.hr = '.+' is not a string"):
        load(None, ['data.hr="\\ud83d"'])


def test_paths_to_read_are_looked_for_beside_the_file_then_in_the_working_directory(tmp_path, monkeypatch) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "data/hr", elsewhere / "data/hr", elsewhere / "data/lr"):
        folder.mkdir(parents=True)
    path = project / "mine.yaml"
    path.write_text(
        "data: {hr: data/hr, lr: data/lr, valid_hr: lost, pairs: s3://bucket/hr}\n"
        "train: {checkpoints: data}\nperceptual: {source: random}\n"
    )
    (project / "random").mkdir()
    monkeypatch.chdir(elsewhere)
    for named in (path, Path("../project/mine.yaml")):
        config = load(named)
        assert Path(config.data.hr).samefile(project / "data/hr")
        assert Path(config.data.hr).is_absolute()
        assert (config.data.lr, config.data.valid_hr, config.data.pairs) == ("data/lr", "lost", "s3://bucket/hr")
        assert (config.train.checkpoints, config.perceptual.source) == ("data", "random")
    assert load(path, ["data.hr=data/hr"]).data.hr == "data/hr"
    assert load(path, beside=False).data.hr == "data/hr"
    monkeypatch.chdir(project)
    assert load(path).data.hr == load(Path("mine.yaml")).data.hr == "data/hr"


def test_a_measured_translator_changes_nothing_about_paths(tmp_path, monkeypatch) -> None:
    (tmp_path / "conf/estimate").mkdir(parents=True)
    path = tmp_path / "conf/x.yaml"
    path.write_text("nets: {translator: {kind: degradation, estimate: estimate}}\n")
    monkeypatch.chdir(tmp_path)
    assert load(path).nets.translator.estimate == str(tmp_path / "conf/estimate")


def test_photographs_of_a_table_are_looked_for_beside_it(tmp_path, monkeypatch) -> None:
    for name in ("photos", "test", "lr"):
        (tmp_path / "conf" / name).mkdir(parents=True)
    path = tmp_path / "conf/table.yaml"
    path.write_text(
        "photos: photos\ntest_hr: ../conf/test\nvalid_hr: here\ntracks: {mild: {lr: lr, test_lr: away, valid_lr: x}}\n"
    )
    monkeypatch.chdir(tmp_path)
    table = load_table(path)
    assert table.photos == str(tmp_path / "conf/photos")
    assert Path(table.test_hr).samefile(tmp_path / "conf/test")
    assert table.valid_hr == "here"
    assert table.tracks.mild
    assert (table.tracks.mild.lr, table.tracks.mild.test_lr) == (str(tmp_path / "conf/lr"), "away")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_the_same_from_any_directory(path: Path, tmp_path, monkeypatch) -> None:
    def loaded(path: Path) -> object:
        if path.stem.startswith("table_"):
            return load_table(path, ["photos=photos", "test_hr=test"])
        return load_search(path).base_config() if path.stem.startswith("tune_") else load(path)

    monkeypatch.chdir(path.parents[1])
    here = loaded(path.relative_to(path.parents[1]))
    monkeypatch.chdir(tmp_path)
    assert loaded(path) == here


def test_the_demo_runs_the_default_step() -> None:
    assert load(next(path for path in CONFIGS if path.stem == "demo")).speed == Config().speed


@pytest.mark.parametrize("text", ["seed: &one 1\nscale: *one\n", "seed: [1\n", "seeds: 1\n"])
def test_two_files_of_one_text_are_named_each(tmp_path: Path, text: str) -> None:
    """They are parsed once."""
    for name in ("one.yaml", "other.yaml"):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=rf"{name}:\d: "):
            load(tmp_path / name, [])


def test_a_whole_number_is_held_against_limits_of_any_kind() -> None:
    check_range("--step-batch", 1, above=0.5, below=math.inf)
    for limits in ({"above": 1.5}, {"minimum": 1.5}, {"maximum": 0.5}, {"below": 0.5}):
        with pytest.raises(ConfigError, match="--step-batch = 1 is out of range"):
            check_range("--step-batch", 1, **limits)
