"""Whether a photograph can be enlarged in the memory that is free, before the work; and what helps where it cannot."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cyclesr_dist.data.photo.kinds import Head
from cyclesr_dist.errors import MemoryShortError
from cyclesr_dist.models.tile_memory import tile_bytes
from cyclesr_dist.models.tiles import UNTILED_PIXELS, tiles_of_photo
from cyclesr_dist.models.upscaler import Upscaler
from cyclesr_dist.runtime.memory import free_on_host, gib, give_back, taken

_ALWAYS = 128 * 2**20
"""What the libraries take when they are first used, blocks of the PNG on their way, parts of a picture converted."""
_GAPS = 1.1
"""Between what is allocated."""
_SMALLER_TILES = (512, 256, 128, 64, 32)
_NO_MEMORY = ("alloc_cpu", "not enough memory", "can't allocate memory", "bad_alloc", "out of memory")
"""What torch and its libraries say, with exceptions of no kind of their own."""


@dataclass(frozen=True)
class Need:
    """Bytes, about."""

    host: int
    gpu: int = 0


class Room:
    """Memory that photographs which are worked on at the same time have been promised."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._promised: list[Need] = []
        self._before = taken()

    @contextmanager
    def given(self, upscaler: Upscaler, path: Path, head: Head, file_bytes: int, tile: int | None) -> Iterator[None]:
        """While the block runs, the memory to enlarge a photograph is its own. Before, it waits until that is free.

        Raises MemoryShortError where even by itself it would take more than is free. Small ones are not asked.
        """
        if head.width * head.height <= UNTILED_PIXELS:
            yield
            return
        need = need_bytes(upscaler, head, file_bytes, tile)
        with self._changed:
            while not self._has(need, upscaler):
                if not self._promised:
                    raise _short(upscaler, path, head, file_bytes, tile, need, self._free(upscaler))
                self._changed.wait()
            self._promised.append(need)
        try:
            yield
        finally:
            with self._changed:
                self._promised.remove(need)
                self._changed.notify_all()

    def _has(self, need: Need, upscaler: Upscaler) -> bool:
        all_of_them = [need, *self._promised]
        return _fits(Need(sum(n.host for n in all_of_them), sum(n.gpu for n in all_of_them)), self._free(upscaler))

    def _free(self, upscaler: Upscaler) -> Need:
        """For all that is promised and will be. What photographs have taken so far is a part of it: those that are done
        have left it with this process, its C library and onnxruntime, which use it again."""
        give_back()
        return Need(free_on_host(self._before), upscaler.arithmetic.gpu_free() or 0)


def _short(
    upscaler: Upscaler, path: Path, head: Head, file_bytes: int, tile: int | None, need: Need, free: Need
) -> MemoryShortError:
    where, wanted, there = ("", need.host, free.host) if need.host > free.host else (" of the GPU", need.gpu, free.gpu)
    return MemoryShortError(
        f"{path}: {_size(head)}, enlarged x{upscaler.scale}, needs about {gib(wanted)} of memory{where}, and "
        f"{gib(there)} are free; {_way_out(upscaler, head, file_bytes, tile, free)}"
    )


def need_bytes(upscaler: Upscaler, head: Head, file_bytes: int, tile: int | None) -> Need:
    """Of reading and of enlarging, the larger one."""
    width, height = head.upright
    cut = tiles_of_photo(upscaler, height, width, tile)
    samples = width * height * head.pixel_bytes
    # Decoders and turning hold the picture twice for a while, beside the file and a copy of it without metadata.
    reading = 2 * file_bytes + round(2.4 * samples)
    rows, columns = (min(cut.side, side) for side in (height, width))
    strip = 2 * rows * width * upscaler.scale**2 * head.pixel_bytes
    around = [min(part + 2 * cut.margin, side) for part, side in ((rows, height), (columns, width))]
    one = tile_bytes(upscaler, around[0], around[1])
    on_gpu = upscaler.arithmetic.gpu_free() is not None
    host = _ALWAYS + max(reading, samples + strip + (0 if on_gpu else one))
    return Need(round(host * _GAPS), round(one * _GAPS) if on_gpu else 0)


@contextmanager
def memory_shortage(upscaler: Upscaler, path: Path, head: Head) -> Iterator[None]:
    """Around the work: what is thrown where memory is short after all becomes MemoryShortError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(text in str(error).lower() for text in _NO_MEMORY):
            raise
        where = " of the GPU" if _is_of_gpu(error) else ""
        raise MemoryShortError(
            f"{path}: {_size(head)}, enlarged x{upscaler.scale}, needs more memory{where} than is free; "
            "a smaller --tile may help"
        ) from error


def _is_of_gpu(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # which else cannot have raised it
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _fits(need: Need, free: Need) -> bool:
    return need.host <= free.host and need.gpu <= free.gpu


def _way_out(upscaler: Upscaler, head: Head, file_bytes: int, tile: int | None, free: Need) -> str:
    side = _side(upscaler, head, tile)
    for smaller in _SMALLER_TILES:
        need = need_bytes(upscaler, head, file_bytes, smaller)
        if smaller < side and _fits(need, free):
            return f"--tile {smaller} fits (about {gib(max(need.host, need.gpu))})"
    return "no --tile makes it fit; more memory, or a smaller photograph, is needed"


def _side(upscaler: Upscaler, head: Head, tile: int | None) -> int:
    width, height = head.upright
    cut = tiles_of_photo(upscaler, height, width, tile)
    return min(cut.side, max(head.upright))


def _size(head: Head) -> str:
    return f"{head.width * head.height / 1e6:.1f} megapixels"
