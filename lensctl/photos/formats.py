"""The photo formats: which file endings are photos, and which formats are recognised by content."""

MAX_PIXELS = 500_000_000
"""Photos with more pixels are refused unless the caller says otherwise."""

_PIXEL_ENDINGS = {
    "JPEG": "jpg jpeg jpe jfif mpo",
    "PNG": "png apng",
    "WEBP": "webp",
    "GIF": "gif",
    "TIFF": "tif tiff",
    "BMP": "bmp dib",
    "AVIF": "avif avifs",
    "JPEG2000": "jp2 j2k jpf jpx j2c jpc",
    "HEIF": "heic heif heics heifs hif",
}

# The endings LibRaw reads, as camera makers write them.
_RAW_ENDINGS = (
    "3fr ari arw bay cap cr2 cr3 crw dcr dcs dng drf eip erf fff gpr iiq k25 kdc mdc mef mos mrw"
    " nef nrw orf pef ptx pxn raf raw rw2 rwl rwz sr2 srf srw x3f"
)

RAW_ENDINGS: frozenset[bytes] = frozenset(f".{ending}".encode() for ending in _RAW_ENDINGS.split())
"""Lower-case endings, with the dot, of camera RAW files."""

PHOTO_ENDINGS: dict[bytes, str] = {
    f".{ending}".encode(): name
    for name, endings in _PIXEL_ENDINGS.items()
    for ending in endings.split()
} | {ending: ending[1:].decode().upper() for ending in RAW_ENDINGS}
"""Lower-case ending with its dot -> format (decoding goes by content, whatever the ending)."""

TWIN_ENDINGS: frozenset[bytes] = frozenset(
    ending for ending, name in PHOTO_ENDINGS.items() if name in ("JPEG", "HEIF")
)
"""Endings of the files that cameras write beside a RAW of the same photo."""


def ending_of(name: bytes) -> bytes:
    """The lower-case ending of a file name with its dot, or b"" (`.jpg` alone has none)."""
    dot = name.rfind(b".")
    return name[dot:].lower() if dot > 0 else b""
