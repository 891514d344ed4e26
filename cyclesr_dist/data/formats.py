"""Which files are photographs: what is read, and what is known but not read, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

_RAW = "a raw camera file: develop it first, and save it as TIFF or PNG"
_HEIC = "a HEIC photograph (HEVC): save it as JPEG, PNG or AVIF first"
_HDR = "an image with floating point samples (HDR): save it with 8 or 16 bits first"
_EDITOR = "a document of an image editor: export it as PNG or TIFF first"


@dataclass(frozen=True)
class Format:
    """One format that is read."""

    name: str
    suffixes: tuple[str, ...]
    depths: str
    """Bits of a sample that are kept."""
    library: str
    """Which library decodes it."""
    remarks: str = ""


FORMATS = (
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        "8; 12 as 16",
        "Pillow; imagecodecs for 12 bits and lossless",
        "grey, colour, CMYK; of MPO the first picture",
    ),
    Format(
        "PNG",
        (".png", ".apng"),
        "1 to 16",
        "imagecodecs",
        "any kind; of an animation the picture that stands for it",
    ),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        "1 to 16",
        "tifffile, imagecodecs",
        "grey, colour, CMYK, palettes, YCbCr; BigTIFF; of several pages the first",
    ),
    Format("WebP", (".webp",), "8", "Pillow", "of an animation the first picture"),
    Format("AVIF", (".avif",), "8; 10 and 12 as 16", "imagecodecs", "HDR (PQ, HLG) is refused"),
    Format("JPEG 2000", (".jp2", ".j2k", ".j2c", ".jpf", ".jpx"), "1 to 16", "imagecodecs", "grey and colour"),
    Format("GIF", (".gif",), "8", "Pillow", "of an animation the first picture"),
    Format("BMP", (".bmp", ".dib"), "1 to 8", "Pillow"),
    Format("PNM", (".ppm", ".pgm", ".pbm", ".pnm"), "1 to 16", "cyclesr_dist", "text and binary"),
)
"""In the order in which `cyclesr formats` lists them."""

SUFFIXES = frozenset(suffix for kind in FORMATS for suffix in kind.suffixes)
"""Of the files that a folder's listing takes as photographs, in lower case. What a file is, its first bytes say."""

UNREAD_SUFFIXES: dict[str, str] = {
    **dict.fromkeys(
        (
            ".3fr",
            ".arw",
            ".cr2",
            ".cr3",
            ".crw",
            ".dcr",
            ".dng",
            ".erf",
            ".fff",
            ".gpr",
            ".iiq",
            ".k25",
            ".kdc",
            ".mef",
            ".mos",
            ".mrw",
            ".nef",
            ".nrw",
            ".orf",
            ".pef",
            ".raf",
            ".raw",
            ".rw2",
            ".rwl",
            ".sr2",
            ".srf",
            ".srw",
            ".x3f",
        ),
        _RAW,
    ),
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIC),
    **dict.fromkeys((".hdr", ".exr", ".pfm"), _HDR),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra"), _EDITOR),
    ".jxl": "a JPEG XL photograph: save it as PNG first",
    ".jxr": "a JPEG XR photograph: save it as PNG or TIFF first",
    ".tga": "a Targa image, which does not say what it is: save it as PNG first",
}
"""Suffixes of photographs that are known and not read -> why."""
