"""The pictures of a run's page: test and validation photographs, and what stands for the degradation."""

from __future__ import annotations

from pathlib import Path

from cyclesr_dist.reports.album import Album, same_size
from cyclesr_dist.reports.degradation_charts import kernel_chart, noise_section
from cyclesr_dist.reports.page import details, paragraph
from cyclesr_dist.reports.run_charts import section_of
from cyclesr_dist.reports.run_files import RunFiles, finite

MAX_PICTURES = 12
"""Comparison pictures embedded; the rest stay in the folder."""


def pictures(run: RunFiles, album: Album) -> str:
    """A slider for each validation photograph, the strips of `comparisons`, then more sliders on demand."""
    stems = [name.removesuffix(".lr") for name in run.pictures if name.endswith(".lr")]
    sliders = [_before_after(run, album, stem) for stem in stems]
    strips = [album.strip(path, path.stem, f"Comparison of {path.stem}") for path in run.comparisons[:MAX_PICTURES]]
    more = [slider for stem in stems for slider in _more(run, album, stem)]
    parts = []
    if first := "".join(sliders):
        text = (
            "The middle of validation photographs. Left of the line: bicubic, which is enlargement without training. "
            "Right of it: g_l2h, the network that enlarges. Move the line with the slider."
        )
        parts.append(f'{paragraph(text)}<div class="pictures">{first}</div>')
    if found := "\n".join(filter(None, strips)):
        parts.append(paragraph("Test photographs, enlarged by each system.") + found)
    rest = len(run.comparisons) - MAX_PICTURES
    if rest > 0:
        parts.append(paragraph(f"{rest} more are in the folder comparisons.", "quiet"))
    if drawn := "".join(filter(None, more)):
        body = f'<div class="pictures">{drawn}</div>'
        parts.append(
            details("More of the validation photographs: against the original, and from the first validation on", body)
        )
    return "\n".join(parts)


def why_none(run: RunFiles) -> str:
    """Where a run has no pictures: what would have to be there."""
    text, data, train = "This run has no pictures.", section_of(run, "data"), section_of(run, "train")
    if not run.config:
        return text
    if run.validation:
        return f"{text} They would be in its folder pictures."
    if not data.get("valid_lr"):
        return f"{text} They are of validation photographs, and the run was given none (data.valid_lr)."
    if finite(section_of(run, "validate").get("pictures")) == 0:
        return f"{text} They were switched off (validate.pictures = 0)."
    if not train.get("validate_every_steps", True):
        return f"{text} They are drawn at validations, and these were switched off (train.validate_every_steps = 0)."
    return f"{text} They are drawn at the first validation, which the run has not reached."


def _before_after(run: RunFiles, album: Album, stem: str) -> str:
    before, (when, chosen) = run.pictures.get(f"{stem}.bicubic"), _chosen(run, stem)
    if before is None or chosen is None:
        return ""
    return album.before_after(("bicubic", before), (f"g_l2h, {when} validation", chosen), f"{stem}, centre")


def _chosen(run: RunFiles, stem: str) -> tuple[str, Path | None]:
    best = run.pictures.get(f"{stem}.best")
    return ("best", best) if best else ("last", run.pictures.get(f"{stem}.last"))


def _more(run: RunFiles, album: Album, stem: str) -> list[str]:
    first, last, hr = (run.pictures.get(f"{stem}.{name}") for name in ("first", "last", "hr"))
    when, chosen = _chosen(run, stem)
    parts = []
    later = [(w, path) for w, path in ((when, chosen), ("last", last)) if path and first and not _same(first, path)]
    if first is not None and later:  # the first validation may have been the best, or the only one
        until, changed = later[0]
        pair = (("first validation", first), (f"{until} validation", changed))
        parts.append(album.before_after(*pair, f"{stem}, what training changed"))
    if hr is not None and chosen is not None and same_size(chosen, hr):
        pair = ((f"g_l2h, {when} validation", chosen), ("original", hr))
        parts.append(album.before_after(*pair, f"{stem}, against the original"))
    return parts


def _same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:  # the album says so
        return False


# How LR photographs are imitated


def imitation(run: RunFiles, album: Album) -> str:
    """What was measured in words, translated beside real LR, the kernel and the noise, and the paper's Figure 3."""
    said = [f"Measured: {text}" if i == 0 else text for i, text in enumerate(run.measured)]
    return "".join((*map(paragraph, said), _beside_real(run, album), _measured(run), _figure_3(run, album)))


def _beside_real(run: RunFiles, album: Album) -> str:
    path = run.pictures.get("translated.best", run.pictures.get("translated.last"))
    figure = album.strip(path, "", "A sharp photograph shrunk and translated, a real LR one") if path else ""
    if not figure:
        return ""
    text = (
        "To learn from sharp photographs, the run shrinks them and makes them look like the real LR ones. The first "
        "picture is such an imitation, of a validation photograph. It should be as soft and as noisy as the second, "
        "a real LR photograph. The third one is the first before it was translated: only shrunk."
    )
    return paragraph(text) + figure


def _measured(run: RunFiles) -> str:
    if run.degradation is None:
        return ""
    try:
        return noise_section(run.degradation, kernel_chart(run.degradation))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):  # facts of another hand
        return ""


def _figure_3(run: RunFiles, album: Album) -> str:
    """syn, fake_real and fake_real in syn's colours, at the first, the best and the last validation; once where they
    are the same one."""
    found: dict[str, list[str]] = {}
    for when in ("first", "best", "last"):
        path = run.pictures.get(f"figure3.{when}")
        if path is not None:
            found.setdefault(next((str(p) for p in map(Path, found) if _same(p, path)), str(path)), []).append(when)
    named = [(Path(path), f"{' and '.join(whens)} validation") for path, whens in found.items()]
    figures = [album.strip(path, name, f"syn, fake_real, renormalised, at the {name}") for path, name in named]
    text = (
        "As in the paper's Figure 3: syn, a photograph shrunk (synthetic LR); fake_real, what g_s2r (the network that "
        "makes LR photographs look real) makes of it; and that with the mean and variance of syn, so that only the "
        "degradation is left."
    )
    body = paragraph(text) + "".join(figures) if any(figures) else ""
    return details("How it changed during training (Figure 3 of the paper)", body)
