"""libtiff kept from writing on stderr: what is wrong with a photo is told by its PhotoError."""

import ctypes
from functools import cache
from pathlib import Path

import PIL


@cache
def silence_libtiff() -> None:
    """Take the handlers away that libtiff prints its errors and warnings with.

    Pillow has no switch for it. Where its copy of the library is not found, the lines stay.
    """
    for path in _loaded():
        library = ctypes.CDLL(path)
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def _loaded() -> set[str]:
    """The libtiff files in this process: of Linux's list, or beside Pillow (macOS)."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        folder = Path(PIL.__file__).parent / ".dylibs"
        return {str(path) for path in folder.glob("libtiff*.dylib")}
    mapped = {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    return {path for path in mapped if Path(path).name.startswith("libtiff")}
