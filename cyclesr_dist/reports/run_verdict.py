"""Did it work? The first thing on a run's page: the verdict of a run that has ended, or how the run stands."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Literal

from cyclesr_dist.config.metrics import METRICS
from cyclesr_dist.reports import run_history
from cyclesr_dist.reports.page import commands, paragraph, signed
from cyclesr_dist.reports.run_charts import best, chosen_by
from cyclesr_dist.reports.run_files import RunFiles

PAIRED = "sr_paired"
"""The one row of a table that sees real pairs: a yardstick, so it does not take part in the contest."""

Answer = Literal["yes", "no", "unknown", "failed", "open"]
"""`unknown`: nothing can tell; `open`: not yet, or the run does not say."""

_SAID: Mapping[Answer, str] = {
    "yes": "Yes.",
    "no": "No.",
    "unknown": "That cannot be known.",
    "failed": "No, the run failed.",
    "open": "Not known yet.",
}


def answer(run: RunFiles) -> Answer:
    """By what the run says of itself; where it does not, by its table."""
    if run_history.state(run):
        return "failed" if run_history.has_failed(run) else "open"
    if "verdict_ok" in run.summary:
        ok = run.summary["verdict_ok"]
        return "yes" if ok is True else "no" if ok is False else "unknown"
    own = run.table.get(run.system)
    others = [run.table[name]["psnr"] for name in ("bicubic", "sr_syn") if name in run.table and name != run.system]
    if own is None or not others:
        return "open"
    return "yes" if own["psnr"] > max(others) else "no"


def verdict(run: RunFiles) -> str:
    """HTML: the answer, why, and what to do next."""
    found, standing, said = answer(run), run_history.state(run), str(run.summary.get("verdict") or "")
    if standing:
        lines = [standing, "" if said else "The verdict comes at the end of the run."]
        lines += [f"It had ended before, with this verdict: {said}"] if said else []
    elif said:
        lines = [said]
    elif run.summary.get("completed"):
        lines = ["It has finished, but its summary.json holds no verdict."] if found == "open" else []
    else:
        reached = run_history.reached(run)
        where = f"The last logged is {reached}." if reached else "No step is logged."
        lines = [f"The folder does not say how the run stands. {where} The verdict comes at the end of the run."]
    question = "Did it work? " + ("Its folder does not say." if _is_silent(run, found) else _SAID[found])
    body = [paragraph(question, "answer"), *(paragraph(line, "lead") for line in lines if line)]
    if not standing and (following := _commands(run)):
        body += [paragraph("What to do next:"), commands(following)]
    return f'<div class="verdict {found}">\n' + "\n".join(body) + "\n</div>"


def in_short(run: RunFiles) -> str:
    """For a cell of a table."""
    found = answer(run)
    return {"yes": "yes", "no": "no", "unknown": "cannot be known", "failed": "no, it failed"}.get(
        found, "not said" if _is_silent(run, found) else "not known yet"
    )


def score(run: RunFiles) -> str:
    """HTML: the one number, and of which photographs it is; empty where there is none."""
    lines = []
    chosen, own = best(run), run.table.get(run.system)
    if own is not None:
        base = run.table.get("bicubic")
        over = f", {signed(own['psnr'] - base['psnr'])} dB to bicubic" if base and run.system != "bicubic" else ""
        lines.append(_number(own["psnr"], f"PSNR on test photographs{over}"))
        if chosen is not None:
            step, psnr = chosen
            text = f"On validation photographs {psnr:.2f} dB ({_choice(run)}, at step {step:,.0f})."
            lines.append(paragraph(text, "quiet"))
    elif chosen is not None:
        step, psnr = chosen
        lines.append(_number(psnr, f"on validation photographs: {_choice(run)}, at step {step:,.0f}"))
    return "\n".join(lines)


def _choice(run: RunFiles) -> str:
    metric = chosen_by(run)
    return "best validation PSNR" if metric == "psnr" else f"PSNR of the network with the best {METRICS[metric].title}"


def _number(psnr: float, where: str) -> str:
    return f'<p class="score"><strong>{psnr:.2f}</strong> dB <span>{escape(where)}</span></p>'


def _is_silent(run: RunFiles, found: Answer) -> bool:
    """Whether the run has ended and no verdict will come."""
    return found == "open" and not run_history.state(run) and bool(run.summary.get("completed"))


def _commands(run: RunFiles) -> list[str]:
    following = run.summary.get("next")
    lines = following if isinstance(following, list) else [following] if isinstance(following, str) else []
    return [str(line) for line in lines if line]
