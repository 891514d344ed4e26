"""Which files are photographs, told from their first bytes: what is read, and what is known but not read, and why."""

from __future__ import annotations

from dataclasses import dataclass

from cyclesr_dist.data.photo import avif, bmp, gif, jp2, jpeg, png, pnm, tiff, webp
from cyclesr_dist.data.photo.kinds import Codec, UnreadError

_RAW = "is a raw camera file; develop it first, and save it as TIFF or PNG"
_HEIC = "is a HEIC photograph (HEVC); save it as JPEG, PNG or AVIF first"
_HDR = "is an image with floating point samples (HDR); save it with 8 or 16 bits first"
_EDITOR = "is a document of an image editor; export it as PNG or TIFF first"
_JXL = "is a JPEG XL photograph; save it as PNG first"
_JXR = "is a JPEG XR photograph; save it as PNG or TIFF first"
_TARGA = "is a Targa image; save it as PNG first"


@dataclass(frozen=True)
class Format:
    """One format that is read."""

    name: str
    suffixes: tuple[str, ...]
    depths: str
    """Bits of a sample, and what becomes of them."""
    library: str
    """What decodes it."""
    remarks: str
    starts: tuple[bytes, ...]
    """How its files begin."""
    codec: Codec

    def begins(self, head: bytes) -> bool:
        return head.startswith(self.starts)


FORMATS = (
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        "8; 12 and lossless 2 to 16 as 8 or 16",
        "Pillow; imagecodecs beyond 8 bits",
        "grey, colour, CMYK and YCCK of Adobe; baseline and progressive; of MPO the first picture",
        (b"\xff\xd8\xff",),
        Codec(jpeg.head, jpeg.decode),
    ),
    Format(
        "PNG",
        (".png", ".apng"),
        "1, 2, 4 and 8 as 8; 16",
        "imagecodecs (libpng)",
        "every kind; of an animation the picture that stands for it",
        (png.SIGNATURE,),
        Codec(png.head, png.decode),
    ),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        "1 to 8 as 8; 9 to 16 as 16",
        "cyclesr-dist, Pillow (libtiff)",
        "grey, colour, CMYK, palettes, YCbCr; BigTIFF; strips, tiles, planes; of several pages the first",
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        Codec(tiff.head, tiff.decode),
    ),
    Format(
        "WebP",
        (".webp",),
        "8",
        "Pillow (libwebp)",
        "of an animation the first picture",
        (),
        Codec(webp.head, webp.decode),
    ),
    Format(
        "AVIF",
        (".avif",),
        "8; 10 and 12 as 16",
        "Pillow; imagecodecs beyond 8 bits",
        "of an animation the first picture",
        (),
        Codec(avif.head, avif.decode),
    ),
    Format(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        "1 to 8 as 8; 9 to 16 as 16",
        "imagecodecs (openjpeg)",
        "grey and colour, not halved",
        (b"\0\0\0\x0cjP  \r\n\x87\n", jp2.CODESTREAM),
        Codec(jp2.head, jp2.decode),
    ),
    Format(
        "GIF",
        (".gif",),
        "8",
        "Pillow",
        "of an animation the first picture",
        (b"GIF87a", b"GIF89a"),
        Codec(gif.head, gif.decode),
    ),
    Format(
        "BMP",
        (".bmp", ".dib"),
        "1 to 8 as 8; 9 to 16 as 16",
        "cyclesr-dist",
        "16, 24 and 32 bits a pixel with any masks, palettes, run lengths",
        (b"BM",),
        Codec(bmp.head, bmp.decode),
    ),
    Format(
        "PNM",
        (".ppm", ".pgm", ".pbm", ".pnm"),
        "1 to 8 as 8; 9 to 16 as 16",
        "cyclesr-dist",
        "text and binary",
        tuple(f"P{number}{space}".encode() for number in range(1, 7) for space in " \t\n\v\f\r#"),
        Codec(pnm.head, pnm.decode),
    ),
)
"""In the order in which `cyclesr formats` lists them."""

_WEBP, _AVIF = FORMATS[3], FORMATS[4]

SUFFIXES = frozenset(suffix for kind in FORMATS for suffix in kind.suffixes)
"""Of the files that a folder's listing takes as photographs, in lower case. What a file is, its first bytes say."""

_RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef"),
    *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
UNREAD_SUFFIXES: dict[str, str] = {
    **dict.fromkeys(_RAW_SUFFIXES, _RAW),
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIC),
    **dict.fromkeys((".hdr", ".exr", ".pfm"), _HDR),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra"), _EDITOR),
    ".jxl": _JXL,
    ".jxr": _JXR,
    ".tga": _TARGA,
}
"""Suffixes of photographs that are known and not read -> why, in words that stand behind the name and a colon."""

_KNOWN = (
    (0, b"IIRO", _RAW),
    (0, b"IIRS", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"FOVb", _RAW),
    (0, b"\0MRM", _RAW),
    (6, b"HEAPCCDR", _RAW),
    (8, b"CR\x02", _RAW),
    (4, b"ftypcrx ", _RAW),
    (0, b"8BPS", _EDITOR),
    (0, b"gimp xcf", _EDITOR),
    (0, b"#?RADIANCE", _HDR),
    (0, b"#?RGBE", _HDR),
    (0, b"\x76\x2f\x31\x01", _HDR),
    (0, b"PF\n", _HDR),
    (0, b"Pf\n", _HDR),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", _JXL),
    (0, b"\xff\x0a", _JXL),
    (0, b"II\xbc", _JXR),
    (0, b"P7\n", "is a PAM image; save it as PNG first"),
    (0, b"\0\0\x01\0", "is an icon, not a photograph"),
    (0, b"%PDF", "is a PDF document, not a photograph"),
    (0, b"<svg", "is a drawing (SVG), not a photograph"),
    (0, b"<?xml", "is a text (XML), not a photograph"),
    (0, b"<!DOCTYPE html", "is a web page, not a photograph; was it saved from the web by mistake?"),
    (0, b"<html", "is a web page, not a photograph; was it saved from the web by mistake?"),
    (0, b"PK\x03\x04", "is a ZIP archive, not a photograph"),
    (0, b"version https://git-lfs", "is a pointer of Git LFS; fetch the file itself first (git lfs pull)"),
    (0, b"\0\x05\x16\x07", "is what macOS keeps beside a file (AppleDouble), not a photograph"),
)
"""Where what stands, and why such a file is not read."""
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
HEAD_BYTES = 64
"""Of a file, which say what it is."""


def recognised(head: bytes) -> Format:
    """The format of a file, of its first HEAD_BYTES. Raises UnreadError with the reason for any other file."""
    for place, words, reason in _KNOWN:
        if head[place:].startswith(words):
            raise UnreadError(reason)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _WEBP
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    for kind in FORMATS:
        if kind.starts and kind.begins(head):
            return kind
    raise UnreadError("is not an image of a format that is read (`cyclesr formats` lists them)" if head else "is empty")


def _of_brands(head: bytes) -> Format:
    size = int.from_bytes(head[:4])
    brands = [head[i : i + 4] for i in (8, *range(16, min(size, len(head)) - 3, 4))]
    if {b"avif", b"avis"} & set(brands):
        return _AVIF
    if set(_HEIC_BRANDS) & set(brands):
        raise UnreadError(_HEIC)
    if b"mif1" in brands or b"msf1" in brands:  # HEIC or AVIF, which its properties say
        return _AVIF
    raise UnreadError("is a film, not a photograph")
