"""The table of docs/guide.md: `cyclesr fit` as a new user would run it, on photographs whose originals are hidden.

    python examples/first_hour.py PHOTOS OUT --hours 0.2 [CASE ...]

A case is a set of photographs (20+15, 3+3, 500+500, mixed) and a damage (noise, blur, jpeg, all, none): `20+15/blur`.
Prints a Markdown table: PSNR in dB and SSIM of all LR photographs against their originals, seconds, and the memory of
the largest process. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import damage

SETS = {"20+15": {}, "3+3": {"most": 3}, "500+500": {"crops": 20}, "mixed": {"mixed": True}}
CASES = [f"20+15/{kind}" for kind in damage.KINDS] + ["3+3/blur", "3+3/noise", "500+500/all", "mixed/all"]
CYCLESR = str(Path(sys.executable).with_name("cyclesr"))


def main(photos: Path, out: Path, hours: float, cases: list[str]) -> None:
    print("| photographs, damage | bicubic | fit | seconds | GB | the verdict |\n|---|---|---|---|---|---|")
    for case in cases or CASES:
        done = out / case.replace("/", "-") / "row.json"
        if not done.exists():
            done.parent.mkdir(parents=True, exist_ok=True)
            done.write_text(json.dumps(row(photos, out, hours, case), indent=2))
        print(
            "| {case} | {bicubic} | {fit} | {seconds:.0f} | {gigabytes:.2f} | {verdict} |".format(
                **json.loads(done.read_text())
            ),
            flush=True,
        )


def row(photos: Path, out: Path, hours: float, case: str) -> dict[str, object]:
    name, kind = case.split("/")
    data = out / "data" / name
    if not data.exists():
        damage.make(photos, data, **SETS[name])
    folder = out / case.replace("/", "-")
    lr = data / kind / "lr"
    started = time.monotonic()
    with open(folder / "fit.log", "wb") as log:
        command = [CYCLESR, "fit", "--hr", str(data / "hr"), "--lr", str(lr), "--run-dir", str(folder / "run")]
        process = subprocess.Popen([*command, "--hours", str(hours)], stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"cyclesr fit ended with {os.waitstatus_to_exitcode(status)}; see {folder}/fit.log")
    return {
        "case": case,
        "bicubic": scores("bicubic", lr, data / "originals", folder / "bicubic.json"),
        "fit": scores(str(folder / "run"), lr, data / "originals", folder / "fit.json"),
        "seconds": time.monotonic() - started,
        "gigabytes": usage.ru_maxrss / 1e6,
        "verdict": json.loads((folder / "run" / "summary.json").read_text())["verdict"],
    }


def scores(model: str, lr: Path, originals: Path, file: Path) -> str:
    command = [CYCLESR, "evaluate", "--model", model, "--lr", str(lr), "--hr", str(originals), "--quiet"]
    subprocess.run([*command, "--protocol", "plain", "--json", str(file)], check=True, stdout=subprocess.DEVNULL)
    mean = json.loads(file.read_text())["mean"]
    return f"{mean['psnr']:.2f}, {mean['ssim']:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one or more of {', '.join(CASES)}; default: all")
    parser.add_argument("--hours", type=float, default=0.25)
    main(**vars(parser.parse_intermixed_args()))
