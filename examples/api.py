"""The Python API in a few lines: measure what makes the photographs of LR differ from those of HR, enlarge one of LR.

    python examples/api.py hr lr large.png bicubic     # or a run folder, or a model file

docs/api.md explains the functions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cyclesr_dist as cyclesr


def main(hr: str, lr: str, large: str, model: str = "bicubic") -> None:
    network = cyclesr.load_model(model)
    for sentence in cyclesr.estimate(hr, lr).sentences:
        print(sentence)
    photo = min(path for path in Path(lr).iterdir() if path.suffix.lower() in (".png", ".jpg", ".webp"))
    print(f"{photo} enlarged x{network.scale}: {network.upscale(photo, out=large)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("hr", "lr", "large"):
        parser.add_argument(name)
    parser.add_argument("model", nargs="?", default="bicubic")
    arguments = parser.parse_args()
    try:
        main(**vars(arguments))
    except cyclesr.CycleSRError as error:
        sys.exit(f"error: {error}")
