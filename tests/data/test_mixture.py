"""Several shard sets a domain: what is drawn from which, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import write_photos

from cyclesr_dist.config.paths import with_paths
from cyclesr_dist.config.reader import dump, leaves
from cyclesr_dist.config.schema import Config, Shards, WeightedSet, load
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.loader import open_sources, rank_dataset
from cyclesr_dist.data.mixture import Mixture
from cyclesr_dist.degradation.sample import sample_shards
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.kubernetes.plan import training_plan
from cyclesr_dist.training.agreement import facts_of_launch

PHOTOS = {"a": (2, 24, 40), "b": (1, 24, 40), "lr": (2, 24, 40)}
"""Count, height and width."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HR sets a of 12 patches, b of 6 and wide of larger ones; an LR set."""
    root = tmp_path_factory.mktemp("sets")
    for seed, (name, (count, height, width)) in enumerate(PHOTOS.items()):
        for path in write_photos(root / "photos" / name, count, height, width, seed).iterdir():
            path.rename(path.with_name(f"{name}{path.name}"))  # the same name would be a pair's
        domain = "lr" if name == "lr" else "hr"
        cut = Shards(patch=8, stride=8, samples_per_shard=5)
        build_set(domain, root / name, cut, scale=2, progress=False, **{f"{domain}_dir": root / "photos" / name})
    build_set("hr", root / "wide", Shards(patch=10), scale=2, progress=False, hr_dir=root / "photos" / "b")
    build_set("hr", root / "of_lr", Shards(patch=8), scale=2, progress=False, hr_dir=root / "photos" / "lr")
    return root


def configure(sets: Path, hr: str, *overrides: str) -> Config:
    """`hr` as on the command line, each folder's name in angle brackets."""
    hr = hr.replace("<", f"{sets}/").replace(">", "")
    unpaired = ["data.allow_overlap=true", "scale=2", f"data.hr={hr}", f"data.lr={sets}/lr"]
    return load(None, [*unpaired, "nets.translator.noise_channels=1", "data.tail=wrap", *overrides])


def mixture(config: Config) -> Mixture:
    opened = open_sources(config).hr
    assert isinstance(opened, Mixture)
    return opened


def test_samples_are_those_of_the_sets_under_keys_of_their_own(sets: Path) -> None:
    both = mixture(configure(sets, "[<a>, <b>]"))
    a, b = both.sets
    assert len(both) == len(a) + len(b) == 18
    keys = [both.key(i) for i in range(len(both))]
    assert keys == [f"0:{a.key(i)}" for i in range(len(a))] + [f"1:{b.key(i)}" for i in range(len(b))]
    order = [17, 0, 3, 12, 11, 0]
    for i, found in zip(order, both.read_many(order), strict=True):
        assert not isinstance(found, InputError)
        expected = a.read(i) if i < len(a) else b.read(i - len(a))
        assert np.array_equal(found["hr"], expected["hr"])


@pytest.mark.parametrize("hr", ["[<a>, <b>]", "[{url: <a>, weight: 1}, {url: <b>, weight: 3.5}]"])
def test_ranks_and_where_a_run_begins_change_no_batch(hr: str, sets: Path) -> None:
    config = configure(sets, hr, "global_batch=6")
    for step in (0, 7, 31):  # each asked for alone
        together = rank_dataset(open_sources(config), config, World())[step]
        parts = [rank_dataset(open_sources(config), config, World(rank, 3))[step] for rank in range(3)]
        assert together.hr_keys == tuple(key for part in parts for key in part.hr_keys)
        assert np.array_equal(together.arrays["hr"], np.concatenate([part.arrays["hr"] for part in parts]))
        assert together.changes["hr"] == [change for part in parts for change in part.changes["hr"]]


def test_weights_are_shares_whatever_the_sizes(sets: Path) -> None:
    config = configure(sets, "[{url: <a>, weight: 1}, {url: <b>, weight: 2}]", "global_batch=6")
    dataset = rank_dataset(open_sources(config), config, World())
    keys = [key for step in range(9) for key in dataset[step].hr_keys]  # three epochs of 18
    assert Counter(key[0] for key in keys) == {"0": 18, "1": 36}
    assert set(Counter(key for key in keys if key[0] == "1").values()) == {6}


def test_a_list_of_one_is_that_set(sets: Path) -> None:
    alone, listed = (open_sources(configure(sets, hr)).hr for hr in ("<a>", "[{url: <a>, weight: 7}]"))
    assert alone is not None
    assert listed is not None
    assert (listed.contents, listed.mix, listed.key(3)) == (alone.contents, alone.mix, alone.key(3))


def test_what_is_drawn_from_knows_sets_and_shares(sets: Path) -> None:
    texts = (
        "[<a>, <b>]",
        "[<b>, <a>]",
        "[{url: <a>, weight: 2}, {url: <b>, weight: 1}]",
        "[{url: <a>, weight: 1}, {url: <b>, weight: 1}]",
    )
    mixtures = [mixture(configure(sets, text)) for text in texts]
    assert mixtures[0].contents == [
        {"sha256": mixtures[0].sets[0].checksum, "samples": 12},
        {"sha256": mixtures[0].sets[1].checksum, "samples": 6},
    ]
    assert mixtures[2].checksum == mixtures[0].checksum  # the shares that the sizes give
    assert len({one.checksum for one in mixtures}) == 3


@pytest.mark.parametrize(
    ("hr", "said"),
    [
        ("[<a>, <wide>]", r"data\.hr\[0\] has patches for LR size 8, data\.hr\[1\] has 10; they must be equal"),
        ("[<a>, <b>, <a>]", r"data\.hr\[0\] = \S+/a and data\.hr\[2\] = \S+/a are the same shard set"),
        ("[{url: <a>, weight: 1}, <b>]", r"data\.hr has weights for some of its 2 shard sets; allowed: for all, or"),
        ("[<a>, '']", r"data\.hr\[1\] is empty; allowed: the folder or URL of a shard set"),
        ("[]", r"data\.hr is empty; give the shard set"),
        ("[{url: <a>}]", r"key 'data\.hr\[0\]\.weight' is missing"),
        ("[{url: <a>, weight: 0}]", r"data\.hr\[0\]\.weight = 0\.0 is out of range; allowed: above 0"),
        ("[{url: <a>, wieght: 1}]", r"unknown key 'data\.hr\[0\]\.wieght'"),
        ("[<a>, <lr>]", r"lr: is a shard set of kind 'lr'; one of kind 'hr' is needed"),
        ("[<a>, <nowhere>]", r"nowhere: no such folder"),
        ("[[<a>]]", r"data\.hr\[0\] = a list is not a string or a mapping of url, weight"),
    ],
)
def test_sets_that_do_not_go_together_are_refused_by_name(hr: str, said: str, sets: Path) -> None:
    with pytest.raises((ConfigError, InputError), match=said):
        open_sources(configure(sets, hr))


def test_photographs_shared_with_any_of_the_sets_are_found(sets: Path) -> None:
    with pytest.raises(InputError, match=r"data\.hr and data\.lr hold patches of the same photographs: lrphoto0\.png"):
        open_sources(configure(sets, "[<b>, <of_lr>]", "data.allow_overlap=false"))


def test_what_is_measured_is_what_is_drawn(tmp_path: Path) -> None:
    for name, count in (("a", 2), ("b", 1)):
        photos = write_photos(tmp_path / "photos" / name, count, 64, 96, count)
        build_set("hr", tmp_path / name, Shards(patch=16, stride=8), scale=2, progress=False, hr_dir=photos)
    write_photos(tmp_path / "photos/c", 1, 32, 32, 7)
    build_set("lr", tmp_path / "lr", Shards(patch=16), scale=2, progress=False, lr_dir=tmp_path / "photos/c")
    config = configure(tmp_path, "[{url: <a>, weight: 1}, {url: <b>, weight: 9}]")
    found = sample_shards(mixture(config), "hr", 2, config.data, 0)
    assert (found.num_photos, found.num_there) == (3, 3)
    # Two photographs of a, one of b: their patches stand in the order of the sets.
    of_a = float((found.photo < 2).float().mean())
    assert of_a == pytest.approx(0.1, abs=0.06)


def test_a_file_s_own_sets_are_found_beside_it_and_written_down_again(tmp_path: Path, monkeypatch) -> None:
    for name in ("here", "x"):
        (tmp_path / "configs" / name).mkdir(parents=True)
    (tmp_path / "configs" / "c.yaml").write_text(
        "data:\n  hr: [here, elsewhere, 's3://b/hr']\n  lr: [{url: x, weight: 2}, {url: y, weight: 1}]\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load(tmp_path / "configs" / "c.yaml")
    assert config.data.hr == (str(tmp_path / "configs" / "here"), "elsewhere", "s3://b/hr")
    assert config.data.lr == (WeightedSet(str(tmp_path / "configs" / "x"), 2.0), WeightedSet("y", 1.0))
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(tmp_path / "again.yaml") == config
    moved = with_paths(config, lambda path: f"/work/{path}")
    assert moved.data.hr == (f"/work/{tmp_path}/configs/here", "/work/elsewhere", "s3://b/hr")
    assert moved.data.lr[1] == WeightedSet("/work/y", 1.0)


def test_no_url_of_a_list_shows_its_secret() -> None:
    for text in ("[a, 'https://me:hunter2@h/hr']", "[{url: 'https://me:hunter2@h/hr', weight: 1}]"):
        with pytest.raises(ConfigError, match=r"data\.hr\[\d\](\.url)? = .* has a password in it") as caught:
            load(None, [f"data.hr={text}"])
        assert "hunter2" not in str(caught.value)
    signed = load(None, ["data.hr=[{url: 'https://h/hr?sig=hunter2', weight: 1}, {url: b, weight: 2}]"])
    assert "hunter2" not in dump(signed)
    assert "hunter2" not in repr(facts_of_launch(signed, {}))
    assert "hunter2" in dump(signed, signatures=True)


def test_hosts_may_have_the_sets_at_different_paths_with_the_same_weights() -> None:
    here, there, other = (
        load(None, [f"data.hr=[{{url: {a}, weight: {w}}}, {{url: 's3://b/x', weight: 1}}]", "data.lr=[a, b]"])
        for a, w in (("a", 2), ("/d/a", 2), ("a", 3))
    )
    assert facts_of_launch(here, {}) == facts_of_launch(there, {}) != facts_of_launch(other, {})
    assert set(leaves(here)) == set(leaves(Config()))


def test_pods_get_every_set_and_are_noted_what_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {hr: [hr, 's3://b/hr'], lr: [{url: /data/lr, weight: 1}]}\n")
    plan = training_plan(tmp_path / "c.yaml", ["cluster.data_claim=photos"])
    assert "- /work/hr\n" in plan.files["config.yaml"]
    assert "- url: /data/lr\n" in plan.files["config.yaml"]
    notes = [note for note in plan.notes if note.startswith("data.")]
    assert len(notes) == 1
    assert notes[0].startswith("data.hr[0] = /work/hr: nothing is mounted there")
    with pytest.raises(ConfigError, match=r"data\.hr\[0\] = .* has a signature or token"):
        training_plan(tmp_path / "c.yaml", ["data.hr=['https://h/hr?sig=hunter2']"])
