"""TIFF: what its first directory says, and the samples of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.exif import colours_of, facts_of
from cyclesr_dist.data.photo.icc import SRGB
from cyclesr_dist.data.photo.ifd import Directory, Layout, layout_of
from cyclesr_dist.data.photo.kinds import (
    CHANNELS,
    DamagedError,
    Head,
    Model,
    Raster,
    Reader,
    Samples,
    UnreadError,
    in_rows,
    whole_range,
)
from cyclesr_dist.data.photo.tiff_segments import CCITT, JPEG, PLAIN, put_together
from cyclesr_dist.data.photo.tiff_segments import Layer as Segments

_SUBFILE, _OLD_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _MAP, _SUB_IFDS, _INK_SET, _EXTRA, _FORMAT = 277, 284, 320, 330, 332, 338, 339
_DOT_RANGE, _COEFFICIENTS, _SUBSAMPLING, _BLACK_WHITE, _ICC, _DNG_VERSION, _DEPTH = (
    336,
    529,
    530,
    532,
    34675,
    50706,
    32997,
)
_TRANSFER, _WHITE_POINT, _PRIMARIES, _NEAR = 301, 318, 319, 0.01
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_CFA, _LINEAR_RAW = 32803, 34892
_MODELS: dict[int, Model] = {
    _WHITE_IS_ZERO: "grey",
    _BLACK_IS_ZERO: "grey",
    _RGB: "rgb",
    _INDEXED: "rgb",
    _SEPARATED: "cmyk",
    _YCBCR: "rgb",
}
_OTHERS = {4: "a mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv", 51177: "a depth map"}
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_OLD_JPEG = 6
_COMPRESSIONS = {PLAIN, *CCITT, 5, JPEG, 8, 32773, 32946, 34925, 50000}
"""CCITT, LZW, JPEG, Deflate of both numbers, PackBits, LZMA and Zstandard."""
_PREMULTIPLIED, _STRAIGHT = 1, 2
_BT_601 = (0.299, 0.587, 0.114)
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2
_RAW = "is a raw camera file; develop it first, and save it as TIFF or PNG"
_MOST_DIRECTORIES = 64


@dataclass(frozen=True)
class _Layer:
    """What the first directory says of its samples."""

    width: int
    height: int
    bits: int
    samples: int
    photometric: int
    compression: int
    extra: int | None
    """Which kind of alpha there is; None: there is none."""
    alpha: int
    """Which sample it is."""
    planar: bool
    model: Model
    remarks: tuple[str, ...]


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    directory = _first(reader)
    layer = _layer(directory)
    layout = _layout(reader)
    orientation, kept = facts_of(directory, reader, layout)
    remarks = [*layer.remarks]
    if (pages := _pages(reader, directory)) > 1:
        remarks.append(f"holds {pages} pages; only the first is read")
    icc = directory.raw(_ICC) or None
    if icc is None and layer.model != "cmyk":
        icc, said = colours_of(directory, reader, layout, grey=layer.model == "grey")
        remarks += said
        if icc is None and layer.photometric != _YCBCR and _own_colours(directory, layer.bits):
            remarks.append("has primaries, a transfer function or levels of its own, which are not used; read as sRGB")
    return Head(layer.width, layer.height, orientation, icc, kept, tuple(remarks), _pixel_bytes(layer))


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError, UnreadError."""
    directory = _first(reader)
    layer = _layer(directory)
    whole = Segments(
        *(layer.width, layer.height, layer.bits, layer.samples, layer.compression, layer.planar),
        ycbcr=layer.photometric == _YCBCR,
        order=_layout(reader).order,
    )
    stored = put_together(data, directory, whole)
    if layer.photometric == _INDEXED:
        return _indexed(directory, stored, layer)
    if layer.photometric == _YCBCR and layer.compression != JPEG:
        luma = _luma(directory)
        for rows in in_rows(layer.height, layer.width):
            stored[rows, :, :3] = _from_ycbcr(stored[rows, :, :3], luma)
    samples = whole_range(stored, layer.bits)
    return _in_order(samples, layer)


def _pixel_bytes(layer: _Layer) -> int:
    return max(layer.samples, CHANNELS[layer.model]) * (2 if layer.bits > 8 else 1)


def _own_colours(directory: Directory, bits: int) -> bool:
    """Whether TIFF's tags say of grey or RGB values that they are not sRGB's."""
    points = [float(part) for part in (*directory.rationals(_WHITE_POINT), *directory.rationals(_PRIMARIES))]
    other = len(points) == len(SRGB) and any(abs(a - b) > _NEAR for a, b in zip(points, SRGB, strict=True))
    levels = {float(level) for level in directory.rationals(_BLACK_WHITE)}
    return other or _TRANSFER in directory or bool(levels - {0, 2**bits - 1})


def _indexed(directory: Directory, stored: NDArray[np.unsignedinteger], layer: _Layer) -> Raster:
    colours = _mapped(directory, stored[:, :, 0], layer.bits)
    if layer.extra is None:
        return Raster(colours, "rgb")
    alpha = whole_range(stored[:, :, layer.alpha, None], layer.bits)
    if colours.dtype != alpha.dtype:
        colours, alpha = (part if part.dtype == np.uint16 else part * np.uint16(257) for part in (colours, alpha))
    both: Samples = np.concatenate([colours, alpha], axis=2)
    return Raster(both, "rgb", alpha=True)


def _in_order(samples: Samples, layer: _Layer) -> Raster:
    """Colours as their model has them, with alpha as the last channel where there is one."""
    colours = CHANNELS[layer.model]
    if layer.photometric == _WHITE_IS_ZERO:
        samples[:, :, 0] = ~samples[:, :, 0]
    if layer.extra is None:
        return Raster(samples[:, :, :colours], layer.model)
    samples = np.concatenate([samples[:, :, :colours], samples[:, :, layer.alpha, None]], axis=2)
    return Raster(divided(samples) if layer.extra == _PREMULTIPLIED else samples, layer.model, alpha=True)


def divided(samples: Samples) -> Samples:
    """Colours that were multiplied by their alpha, the last channel, as they were before; 0 where it is 0."""
    full = int(np.iinfo(samples.dtype).max)
    straight = samples.copy()
    for rows in in_rows(*samples.shape[:2]):
        colour, alpha = samples[rows, :, :-1].astype(np.uint64), samples[rows, :, -1:].astype(np.uint64)
        values = np.where(alpha > 0, (colour * full + alpha // 2) // np.maximum(alpha, 1), 0)
        straight[rows, :, :-1] = np.minimum(values, full)
    return straight


def _layout(reader: Reader) -> Layout:
    layout = layout_of(reader.upto(0, 16))
    if layout is None:
        raise DamagedError("a TIFF without a head")
    return layout


def _first(reader: Reader) -> Directory:
    layout = _layout(reader)
    return Directory(reader, layout, layout.first)


def _pages(reader: Reader, first: Directory) -> int:
    """Full pages. Raises UnreadError for raw camera files, whose first page is a preview of what is in others."""
    layout = _layout(reader)
    raw, larger, pages, seen = _is_raw(first), False, 1, {layout.first}
    ahead = [*first.integers(_SUB_IFDS)[:_MOST_DIRECTORIES], first.next]
    reduced = bool(_subfile(first) & _REDUCED)
    in_chain = {first.next}
    while ahead and len(seen) < _MOST_DIRECTORIES:
        offset = ahead.pop()
        if not offset or offset in seen:
            continue
        seen.add(offset)
        try:
            directory = Directory(reader, layout, offset)
        except DamagedError:
            continue
        raw = raw or _is_raw(directory)
        full = not _subfile(directory) & (_REDUCED | _MASK)
        larger = larger or (full and reduced)
        if offset in in_chain:
            pages += full
            in_chain.add(directory.next)
            ahead.append(directory.next)
        ahead += directory.integers(_SUB_IFDS)[:_MOST_DIRECTORIES]
    if raw:
        raise UnreadError(_RAW)
    if larger or (reduced and first.integers(_SUB_IFDS)):
        raise UnreadError("has a preview as its first page, and its picture behind it; save it as a plain TIFF first")
    return pages


def _subfile(directory: Directory) -> int:
    """What a page is; in the tag of TIFF 5 the number 2 says that it is reduced."""
    old = _REDUCED if directory.integer(_OLD_SUBFILE) == _OLD_REDUCED else 0
    return directory.integer(_SUBFILE, old)


def _is_raw(directory: Directory) -> bool:
    return _DNG_VERSION in directory or directory.integer(_PHOTOMETRIC, -1) in (_CFA, _LINEAR_RAW)


def _layer(directory: Directory) -> _Layer:
    """Raises UnreadError for whatever is not known to be read right."""
    width, height = directory.integer(_WIDTH), directory.integer(_LENGTH)
    photometric = directory.integer(_PHOTOMETRIC, -1)
    compression = directory.integer(_COMPRESSION, 1)
    samples = directory.integer(_SAMPLES, 1)
    bits = set(directory.integers(_BITS)) or {1}
    formats = set(directory.integers(_FORMAT)) or {_UNSIGNED}
    if not 1 <= samples <= 64:
        raise DamagedError(f"has {samples} samples a pixel")
    if _is_raw(directory):
        raise UnreadError(_RAW)
    if photometric not in _MODELS:
        what = _OTHERS.get(photometric, "of an unknown kind" if photometric >= 0 else "")
        reason = f"holds colours as {what}" if what else "does not say what its values mean (PhotometricInterpretation)"
        raise UnreadError(f"{reason}; save it as RGB or grey first")
    _check_samples(bits, formats, compression)
    if directory.integer(_DEPTH, 1) > 1:
        raise UnreadError("is a volume, not a picture")
    model = _MODELS[photometric]
    colours = 1 if photometric == _INDEXED else CHANNELS[model]
    if samples < colours:
        raise DamagedError(f"has {samples} samples a pixel, and needs {colours}")
    if model == "cmyk" and (directory.integer(_INK_SET, 1) != 1):
        raise UnreadError("is printed with inks other than CMYK; save it as RGB first")
    if photometric == _YCBCR:
        _check_ycbcr(directory, compression, samples, bits)
    extra, place, remarks = _extra(directory, samples - colours, photometric)
    dots = directory.integers(_DOT_RANGE)
    if model == "cmyk" and dots and (any(dots[::2]) or {*dots[1::2]} != {2 ** max(bits) - 1}):
        remarks += ("has ink from and to other values than the usual (DotRange), which is not used",)
    planar = directory.integer(_PLANAR, 1) == 2
    return _Layer(
        *(width, height, max(bits), samples, photometric, compression, extra, colours + place, planar, model, remarks)
    )


def _check_samples(bits: set[int], formats: set[int], compression: int) -> None:
    if formats & {_FLOAT, 5, 6}:
        raise UnreadError("holds floating point samples, 32-bit or the like (HDR); save it with 8 or 16 bits first")
    if formats - {_UNSIGNED, _UNDEFINED}:
        raise UnreadError("holds samples with a sign; save it with 8 or 16 bits first")
    if len(bits) > 1:
        raise UnreadError(f"has samples of different depths ({', '.join(map(str, sorted(bits)))} bits)")
    if not 1 <= max(bits) <= 16:
        raise UnreadError(f"holds {max(bits)}-bit samples, which are not supported; save it with 8 or 16 bits first")
    if compression == _OLD_JPEG:
        raise UnreadError("holds a JPEG in TIFF's first, abandoned way; save it as PNG first")
    if compression not in _COMPRESSIONS:
        raise UnreadError(f"is compressed in a way that is not read (number {compression}); save it as PNG first")


def _check_ycbcr(directory: Directory, compression: int, samples: int, bits: set[int]) -> None:
    luma = _luma(directory)
    if compression == JPEG:
        if max(abs(a - b) for a, b in zip(luma, _BT_601, strict=True)) > 0.001:
            raise UnreadError("holds a JPEG of other colours than a JPEG has (YCbCrCoefficients); save it as PNG first")
        return
    if directory.integers(_SUBSAMPLING) != (1, 1) or samples != 3 or bits != {8}:
        raise UnreadError("holds YCbCr with halved colours outside of a JPEG; save it as RGB first")
    levels = directory.rationals(_BLACK_WHITE)
    if levels and [float(level) for level in levels] != [0, 255, 128, 255, 128, 255]:
        raise UnreadError("holds YCbCr of a narrow range; save it as RGB first")


def _extra(directory: Directory, number: int, photometric: int) -> tuple[int | None, int, tuple[str, ...]]:
    """Which kind of alpha there is, None for none, which of the samples beyond the colours it is, and remarks."""
    if number < 1:
        return None, 0, ()
    said = directory.integers(_EXTRA)[:number]
    place = next((i for i, kind in enumerate(said) if kind in (_PREMULTIPLIED, _STRAIGHT)), None)
    kind = None if place is None else said[place]
    if kind == _PREMULTIPLIED and photometric not in (_BLACK_IS_ZERO, _RGB):
        raise UnreadError("holds colours of a rare kind multiplied by their transparency; save it as RGB first")
    dropped = number - (kind is not None)
    remark = f"has {dropped} more channel{'s' * (dropped > 1)} than colours, of no stated meaning; left out"
    return kind, place or 0, (remark,) if dropped else ()


def _mapped(directory: Directory, indices: NDArray[np.unsignedinteger], bits: int) -> Samples:
    """Colours of a palette. Its values have 16 bits; 8-bit ones stand in the high byte, in both, or in the low one."""
    values = np.array(directory.integers(_MAP), np.uint16)
    if len(values) != 3 << bits:
        raise DamagedError("has a palette that is not of its depth")
    colours = values.reshape(3, -1).T
    low, high = colours & 255, colours >> 8
    if not high.any():
        eight_bits: Samples = colours.astype(np.uint8)[indices]
        return eight_bits
    eight = not low.any() or bool((low == high).all())
    mapped: Samples = (high.astype(np.uint8) if eight else colours)[indices]
    return mapped


def _luma(directory: Directory) -> tuple[float, float, float]:
    """How much light of red, green and blue there is in Y. Raises DamagedError for what cannot be."""
    if _COEFFICIENTS not in directory:
        return _BT_601
    said = tuple(float(part) for part in directory.rationals(_COEFFICIENTS))
    if len(said) != 3 or abs(sum(said) - 1) > 0.01 or min(said) <= 0:
        raise DamagedError("says of its YCbCr what cannot be (YCbCrCoefficients)")
    red, green, blue = said
    return red, green, blue


def _from_ycbcr(stored: NDArray[np.unsignedinteger], luma: tuple[float, float, float]) -> NDArray[np.uint8]:
    """YCbCr of the full range as RGB."""
    red, green, blue = luma
    y, cb, cr = np.moveaxis(stored.astype(np.float32), 2, 0)
    r, b = y + (2 - 2 * red) * (cr - 128), y + (2 - 2 * blue) * (cb - 128)
    rgb = np.stack([r, (y - red * r - blue * b) / green, b], axis=2)
    levels: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return levels
