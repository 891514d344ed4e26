"""The batch script of a plan: what bash and sbatch make of it, whatever the configuration holds."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cyclesr_dist.config.schema import load
from cyclesr_dist.config.slurm import time_seconds
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.kubernetes.submit import main as submit
from cyclesr_dist.slurm.plan import plan_of
from cyclesr_dist.slurm.script import comment_of, render

CONFIGS = Path(__file__).parents[2] / "configs"
GPUS = ["cluster.nodes=4", "cluster.gpus_per_node=8", "cluster.cpus=64", "cluster.memory_gib=512", "global_batch=64"]
GPUS += ["backend=ddp", "cluster.prepare=[]"]
FAKE = """#!{python} -IS
import json, os, sys
with open(os.environ["TOLD"], "a") as file:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=file)
sys.exit(int(os.environ.get("CODE_OF_" + os.path.basename(sys.argv[0]).upper(), "0")))
"""


def script(*overrides: str, target: str = "slurm", config: str = "demo") -> str:
    return render(plan_of(target, CONFIGS / f"{config}.yaml", overrides))


def options(text: str) -> list[str]:
    """The script's lines for sbatch, as the words that it makes of them: quotes group, a backslash keeps."""
    found = []
    for line in text.split("\n"):
        if not line.startswith("#SBATCH "):
            continue
        word, quote, kept = "", "", False
        for character in line.removeprefix("#SBATCH "):
            if kept:
                word, kept = word + character, False
            elif character == "\\":
                kept = True
            elif quote and character == quote:
                quote = ""
            elif not quote and character in "'\"":
                quote = character
            else:
                assert quote or not (character.isspace() or character == "#"), line
                word += character
        assert not quote
        found.append(word)
    return found


class Desk:
    """A folder in which scripts are run with an srun and an scontrol that write down their words."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name in ("srun", "scontrol"):
            (folder / "bin" / name).write_text(FAKE.format(python=sys.executable))
            (folder / "bin" / name).chmod(0o755)

    def run(self, text: str, **codes: int) -> tuple[int, list[list[str]]]:
        """Exit code, and the words of every call."""
        told = self.folder / "told"
        told.unlink(missing_ok=True)
        codes = {f"CODE_OF_{name.upper()}": str(code) for name, code in codes.items()}  # type: ignore[misc]
        variables = {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "TOLD": str(told), "SLURM_JOB_ID": "7"}
        done = subprocess.run(
            ["bash", "-c", text.replace("export PATH=", "export IGNORED=")],
            env=variables | {"SLURM_JOB_NUM_NODES": "2"} | codes,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr, done.stderr
        return done.returncode, [json.loads(line) for line in told.read_text().splitlines()]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk") / "a \"b\" 'c' $HOME `id` %j #1 ;&|"
    folder.mkdir()
    return Desk(folder)


@pytest.fixture
def desk(odd: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(odd.folder)
    (odd.folder / "runs/demo/slurm").mkdir(parents=True, exist_ok=True)
    return odd


def test_a_run_on_gpus() -> None:
    found = options(script(*GPUS, "slurm.partition=gpu", "slurm.account=sr", "slurm.qos=long", "slurm.time=8:00:00"))
    own = Path.cwd() / "runs/demo/slurm"
    assert found[1:] == [
        *("--job-name=demo", "--nodes=4", "--ntasks-per-node=8", "--cpus-per-task=8", "--mem=524288M"),
        *("--gres=gpu:8", "--account=sr", "--partition=gpu", "--qos=long", "--time=8:00:00", f"--chdir={Path.cwd()}"),
        *(f"--output={own}/%j.log", "--open-mode=append", "--requeue", "--signal=USR1@120", "--export=ALL"),
    ]


def test_the_ranks_get_their_command_and_their_configuration(desk: Desk) -> None:
    code, calls = desk.run(script("train.epochs=11", "cluster.ranks_per_node=2", "slurm.min_nodes=1"))
    assert code == 0
    own = desk.folder / "runs/demo"
    assert calls[0] == [
        *("srun", "--nodes=1", "--ntasks=1", "cyclesr", "demo", "--data-only", "--quiet", "--run-dir", "runs/demo")
    ]
    assert calls[1][1:4] == ["--nodes=2", "--ntasks=4", "--ntasks-per-node=2"]
    assert calls[1][-7:] == [
        *("-m", "cyclesr_dist.training", "--config", str(own / "slurm/config.yaml"), "--run-dir", str(own), "--resume")
    ]
    config = load(own / "slurm/config.yaml")
    assert config.train.epochs == 11
    assert config.data.hr == str(desk.folder / "runs/demo/data/shards/hr")
    assert (own / "slurm/exit-7").read_text() == "0\n"


@pytest.mark.parametrize(
    ("srun", "scontrol", "requeues", "left"),
    [(75, 0, True, 75), (75, 1, True, 75), (2, 0, False, 2), (137, 0, False, 137)],
)
def test_75_alone_is_requeued(desk: Desk, srun: int, scontrol: int, requeues: bool, left: int) -> None:
    (desk.folder / "runs/demo/slurm/exit-7").unlink(missing_ok=True)
    code, calls = desk.run(script("cluster.prepare=[]"), srun=srun, scontrol=scontrol)
    assert code == left
    assert (["scontrol", "requeue", "7"] in calls) == requeues
    assert (desk.folder / "runs/demo/slurm/exit-7").exists() == (not requeues or scontrol != 0)


def test_what_cannot_be_prepared_is_not_trained(desk: Desk) -> None:
    code, calls = desk.run(script(), srun=2)
    assert code == 2
    assert len(calls) == 1


@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_ranks_run_in_a_container(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [f"slurm.container_runtime={runtime}", "slurm.container=/images/sr 1.sif", "slurm.mounts=[/data set]"]
    text = script(*GPUS, *given)
    (tmp_path / "runs/demo/slurm").mkdir(parents=True)
    words = Desk(tmp_path).run(text)[1][0]
    if runtime == "pyxis":
        assert "--container-image=/images/sr 1.sif" in words
        assert f"--container-mounts={tmp_path}:{tmp_path},/data set:/data set" in words
        assert f"--container-workdir={tmp_path}" in words
    else:
        begin = words.index("apptainer")
        assert words[begin : begin + 7] == [
            *("apptainer", "exec", "--nv", f"--bind={tmp_path}:{tmp_path}", "--bind=/data set:/data set"),
            *(f"--pwd={tmp_path}", "/images/sr 1.sif"),
        ]
    assert words[words.index("-m") - 1] == "python"


def test_prologue_and_further_options_come_as_they_are() -> None:
    text = script("slurm.prologue=['module load cuda/12', 'source ~/venv/bin/activate']")
    assert "\nmodule load cuda/12\nsource ~/venv/bin/activate\n" in text
    text = script("slurm.options=['--constraint=a100|h 100', --exclusive]")
    assert options(text)[-2:] == ["--constraint=a100|h 100", "--exclusive"]


def test_a_search_has_a_task_a_node_and_a_token(desk: Desk) -> None:
    text = script("cluster.nodes=3", target="slurm-search", config="tune_demo")
    assert "--ntasks-per-node=1" in options(text)
    assert "RAY_AUTH_TOKEN=" in text
    (desk.folder / "runs/tune-demo/slurm").mkdir(parents=True, exist_ok=True)
    code, calls = desk.run(text)
    assert code == 0
    assert calls[0][-7:-5] == ["-m", "cyclesr_dist.slurm.ray_node"]
    base = desk.folder / "runs/tune-demo/slurm/base.yaml"
    assert yaml.safe_load(base.with_name("search.yaml").read_text())["base"] == str(base)
    assert load(base).optim.lr_sr == 1e-3


def test_the_comment_knows_the_same_job_again() -> None:
    assert comment_of(script()) == comment_of(script())
    others = [["train.epochs=11"], ["slurm.time=10"], ["slurm.options=[--exclusive]"], ["cluster.env={A: b}"]]
    assert len({comment_of(script(*given)) for given in [[], *others]}) == 5


NOT_NUL = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
ONE_LINE = st.text(st.characters(exclude_characters="\x00\n\r", exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(variable=NOT_NUL, word=NOT_NUL, option=ONE_LINE, image=ONE_LINE)
def test_values_reach_the_programs_as_they_are(desk: Desk, variable: str, word: str, option: str, image: str) -> None:
    given = {"env": {"TOLD_MORE": variable}, "prepare": ["prepare", word]}
    more = [f"cluster.env={json.dumps(given['env'])}", f"cluster.prepare={json.dumps(given['prepare'])}"]
    more += [f"slurm.options={json.dumps([f'--mail-user={option}'])}", f"slurm.container={json.dumps(image)}"]
    text = script(*more)
    assert options(text)[-1] == f"--mail-user={option}"
    code, calls = desk.run(f"{text.replace('srun --nodes=1', chr(10) + chr(34) + sys.executable + chr(34) + SHOW, 1)}")
    assert code == 0
    assert calls[0] == [variable]
    assert calls[1][-2:] == ["prepare", word]
    assert not image or image in calls[1]


SHOW = """ -c 'import json, os; print(json.dumps([os.environ["TOLD_MORE"]]), file=open(os.environ["TOLD"], "a"))'
srun --nodes=1"""


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("slurm.partition=a b", "slurm.partition = 'a b'"),
        ("slurm.account=-x", "slurm.account"),
        ("slurm.qos='a\nb'", "slurm.qos"),
        ("slurm.time=soon", "slurm.time = 'soon'; allowed: minutes"),
        ("slurm.time=2", "slurm.time = 2 is no longer than slurm.warning_seconds = 120"),
        ("slurm.warning_seconds=20", "slurm.warning_seconds = 20; allowed: above train.grace_seconds = 25"),
        ("slurm.min_nodes=3", "slurm.min_nodes = 3"),
        ("slurm.options=[constraint=a]", "slurm.options[0] = 'constraint=a'; allowed: an option of sbatch"),
        ("slurm.options=[--signal=USR2@5]", "the script has its own"),
        ("slurm.options=[-N4]", "slurm.options[0] = '-N4'; allowed: an option of sbatch in its long form"),
        ('slurm.prologue=["a\\nb"]', "slurm.prologue[0]"),
        ("slurm.mounts=[/data]", "slurm.mounts = ['/data'] without slurm.container"),
        ("slurm.mounts=[data]", "slurm.mounts[0] = 'data'; allowed: an absolute path"),
        ("slurm.container_runtime=docker", "slurm.container_runtime"),
        ("slurm.nodes=3", "slurm.nodes"),
        ("cluster.ranks_per_node=3", "global_batch = 8 is no multiple of the 6 ranks"),
        ("backend=single", "backend = single with 2 nodes"),
        ("train.checkpoints=s3://b/x?X-Amz-Signature=abc", "has a signature or token in its query"),
    ],
)
def test_what_no_job_could_run_is_refused(override: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(["--config", str(CONFIGS / "demo.yaml"), "--target", "slurm", "--dry-run", override]) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


def test_every_number_of_nodes_must_divide_the_batch() -> None:
    with pytest.raises(ConfigError, match="global_batch = 8 is no multiple of the 3 ranks of 3 nodes"):
        script("cluster.nodes=4", "slurm.min_nodes=2")


@pytest.mark.parametrize("name", ["a\\b", "a\nb"])
def test_a_folder_that_sbatch_cannot_name_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(ConfigError, match="submitting from the folder"):
        script()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("90", 5400), ("1:30", 90), ("2:00:01", 7201), ("1-0", 86400), ("1-2:3", 93780), ("1-2:3:4", 93784)],
)
def test_times_are_read_as_sbatch_reads_them(text: str, seconds: int | None) -> None:
    assert time_seconds(text) == seconds


def test_a_dry_run_prints_a_script_that_bash_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert submit(["--config", str(CONFIGS / "demo.yaml"), "--target", "slurm", "--dry-run", "--quiet"]) == 0
    (tmp_path / "job.sh").write_text(capsys.readouterr().out)
    subprocess.run(["bash", "-n", str(tmp_path / "job.sh")], check=True)
    assert shlex.quote(sys.executable) in (tmp_path / "job.sh").read_text()
