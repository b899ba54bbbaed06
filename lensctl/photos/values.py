"""Single values as cameras and editors write them, into Python's."""

import math
import re
from datetime import date, time
from numbers import Real
from typing import Any

JOINERS = "\u200c\u200d"
"""They cannot be seen, but make other words and pictures of the characters around them."""

_MAX_TEXT = 500
# What is not known is blank in EXIF, 00 in IPTC, and left out in XMP; some cameras pad with blanks.
_TWO = r"(\d\d| \d(?!\d)|  )"
_CLOCK = rf"(?:T| +){_TWO}:{_TWO}(?::{_TWO})?(?:[.,]\d*)?"
_DAY = rf"[-:/.]{_TWO}(?:{_CLOCK})?\s*(Z|[-+]\d\d:?\d\d)?"
_DATE_TIME = re.compile(rf"(\d{{4}})(?!\d)(?:[-:/.]{_TWO}(?:{_DAY})?)?")
_UNSET_DATE = re.compile(r"[0: T/.+-]*")
_XMP_DEGREES = re.compile(r"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?([NSEW])")


def text(value: Any, keep: str = "") -> str | None:
    """A one-line string from what a text tag holds; None when it is blank.

    UTF-8 is tried before Latin-1, as most software writes it whatever the standard says. What
    cannot be printed is a blank, but for the characters in `keep`.
    """
    return " ".join(_line(value, keep).split())[:_MAX_TEXT] or None


def _line(value: Any, keep: str = "") -> str:
    """The text up to its NUL, with its blanks."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if value is None:
        return ""
    raw = value if isinstance(value, bytes) else None
    if isinstance(value, str):
        try:
            raw = value.encode("latin-1")
        except UnicodeEncodeError:
            raw = None  # decoded rightly already
    if raw is not None:
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError:
            value = raw.decode("latin-1")
    return "".join(c if c.isprintable() or c in keep else " " for c in str(value).split("\0")[0])


def moment(value: Any, offset: Any = None) -> str | None:
    """ISO 8601 local time from an EXIF or XMP date; None when the camera's clock was not set.

    A month, a day or a time that is not known counts as the first: "1965" -> 1965-01-01T00:00:00.

    Raises:
        ValueError: it is no date.
    """
    written = _line(value).strip()[:_MAX_TEXT]
    if _UNSET_DATE.fullmatch(written):
        return None
    match = _DATE_TIME.match(written)
    if match is None:
        raise ValueError(f"{written!r} is no date")
    year, month, day, *clock = (int((part or "").strip() or 0) for part in match.groups()[:6])
    if not day and not _UNSET_DATE.fullmatch(written[match.end() :]):
        raise ValueError(f"{written!r} is no date")
    local = date(year, month or 1, (month and day) or 1)
    return f"{local}T{_time(*clock)}" + _utc_offset(match.group(7) or text(offset))


def _time(hour: int, minute: int, second: int) -> time:
    """Midnight for what is no time, as 24:05: the date beside it is right all the same."""
    try:
        return time(hour, minute, 59 if second == 60 else second)  # 60: a leap second
    except ValueError:
        return time()


def _utc_offset(written: str | None) -> str:
    if written == "Z":
        return "+00:00"
    match = re.fullmatch(r"([-+])(\d\d):?(\d\d)", written or "")
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        return ""
    return f"{match[1]}{match[2]}:{match[3]}"


def iptc_moment(date: Any, time: Any) -> str | None:
    """ISO 8601 local time from IPTC's CCYYMMDD and HHMMSS±HHMM.

    Raises:
        ValueError: they are no date.
    """
    day, clock = text(date), text(time) or ""
    if day is None or len(day) != 8:
        return None
    if len(clock) < 6:
        clock = "000000"
    written = f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}"
    return moment(written, clock[6:] or None)


def camera(make: str | None, model: str | None) -> str | None:
    """Make and model as one name, without saying the make twice.

    "Canon", "Canon EOS R5" -> "Canon EOS R5"; "NIKON CORPORATION", "NIKON D750" -> "NIKON D750".
    """
    if not make or not model:
        return model or make
    if model.lower().split()[0] == make.lower().split()[0]:
        return model
    return f"{make} {model}"


def degrees(value: Any, reference: Any, limit: int) -> float | None:
    """Degrees from EXIF's degrees, minutes and seconds and its N, S, E or W.

    Some software leaves out the seconds, or writes degrees alone.

    Raises:
        ValueError: beyond `limit`.
    """
    if isinstance(value, Real):
        value = (value,)
    if not isinstance(value, tuple) or not 0 < len(value) <= 3:
        return None
    parts = [*(float(part) for part in value), 0.0, 0.0][:3]
    if not all(math.isfinite(part) for part in parts):
        return None  # 0/0: the receiver had no fix
    side = (text(reference) or "").upper()
    return _signed(parts, side, limit)


def xmp_degrees(value: str | None, limit: int) -> float | None:
    """Degrees from XMP's "48,51.5N" or "48,51,30N".

    Raises:
        ValueError: beyond `limit`, or not written that way.
    """
    if value is None:
        return None
    match = _XMP_DEGREES.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is no position")
    return _signed([float(part or 0) for part in match.groups()[:3]], match[4], limit)


def _signed(parts: list[float], side: str, limit: int) -> float:
    angle = round(parts[0] + parts[1] / 60 + parts[2] / 3600, 7)
    if not 0 <= angle <= limit:
        raise ValueError(f"{angle} degrees")
    return -angle if side[:1] in ("S", "W") else angle


def rating(value: Any) -> int | None:
    """0 to 5 stars, or -1 for rejected.

    Raises:
        ValueError: it is no number.
    """
    written = text(value)
    if written is None:
        return None
    stars = round(float(written))
    return stars if -1 <= stars <= 5 else None
