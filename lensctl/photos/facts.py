"""What a photo's metadata tells: when, where, with what; the user's own rating and keywords.

EXIF and IPTC are read by Pillow, XMP by defusedxml (an XML parser that refuses entity bombs).
Cameras, phones and editors write wrong metadata every day: nothing here raises for it, what could
not be read is listed in `Facts.problems`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from PIL import ExifTags, Image, IptcImagePlugin

from lensctl.photos import values, xmp
from lensctl.photos.decode import OpenPhoto

_T = TypeVar("_T")
_MAX_KEYWORDS = 1000
_EXIF, _GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
_MAKE, _MODEL, _DATE_TIME = 0x010F, 0x0110, 0x0132
_XMP_PACKET, _RATING, _XP_KEYWORDS = 0x02BC, 0x4746, 0x9C9E
_TAKEN, _TAKEN_OFFSET = 0x9003, 0x9011
_DIGITIZED, _DIGITIZED_OFFSET = 0x9004, 0x9012
_OFFSET, _LENS_MODEL = 0x9010, 0xA434
_GPS_LATITUDE_REF, _GPS_LATITUDE, _GPS_LONGITUDE_REF, _GPS_LONGITUDE = 1, 2, 3, 4
_IPTC_KEYWORD, _IPTC_DATE, _IPTC_TIME = (2, 25), (2, 55), (2, 60)


@dataclass(frozen=True)
class Facts:
    """What is known about a photo besides its pixels; None or () where the photo does not say.

    Attributes:
        width: of the whole photo, upright, pixels.
        height: likewise.
        format: "JPEG", "PNG", "HEIF", "DNG", ...
        taken: ISO 8601, the local time the camera showed, to the second, with the offset from
            UTC when the photo gives one: "2024-07-01T12:30:00+02:00".
        camera: make and model.
        lens: model of the lens.
        latitude: degrees, north positive.
        longitude: degrees, east positive.
        orientation: EXIF orientation of the stored pixels, 1 to 8.
        rating: 0 to 5, or -1 for rejected.
        keywords: in the order they were found, each once.
        problems: what could not be read, in words.
    """

    width: int
    height: int
    format: str
    taken: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    orientation: int = 1
    rating: int | None = None
    keywords: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read_facts(photo: OpenPhoto) -> Facts:
    """The facts of an opened photo. Never raises for damaged metadata."""
    metadata = _Metadata(photo)
    nowhere: tuple[float | None, float | None] = (None, None)
    latitude, longitude = metadata.read("position", metadata.position, nowhere)
    return Facts(
        width=photo.width,
        height=photo.height,
        format=photo.format,
        taken=metadata.taken(),
        camera=metadata.read("camera's name", metadata.camera, None),
        lens=metadata.read("lens's name", metadata.lens, None),
        latitude=latitude,
        longitude=longitude,
        orientation=photo.orientation,
        rating=metadata.read("rating", metadata.rating, None),
        keywords=metadata.read("list of keywords", metadata.keywords, ()),
        problems=tuple(metadata.problems),
    )


class _Metadata:
    """The three kinds of metadata side by side, and which one is believed for which fact."""

    def __init__(self, photo: OpenPhoto) -> None:
        self.problems = list(photo.problems)
        none: Mapping[Any, Any] = {}
        exif = self.read("EXIF data", photo.exif, Image.Exif())
        self._exif: Mapping[int, Any] = exif
        self._shot = self.read("EXIF data", lambda: exif.get_ifd(_EXIF), none)
        self._gps = self.read("GPS data", lambda: exif.get_ifd(_GPS), none)
        self._raw = photo.raw
        image = photo.image
        self._iptc = none
        if image is not None:
            self._iptc = self.read("IPTC data", lambda: _iptc(image), none)
        self._xmp = self.read("XMP data", lambda: xmp.Xmp(self._packet(image)), xmp.Xmp(b""))

    def read(self, part: str, read: Callable[[], _T], default: _T) -> _T:
        """The result, or the default with a line in `problems`."""
        try:
            return read()
        except Exception as error:  # the parsers raise anything on damaged metadata
            problem = f"the {part} is damaged ({error or type(error).__name__})"
            if problem not in self.problems:
                self.problems.append(problem)
            return default

    def _packet(self, image: Image.Image | None) -> bytes:
        info = image.info if image is not None else {}
        packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or self._exif.get(_XMP_PACKET)
        return packet.encode() if isinstance(packet, str) else bytes(packet or b"")

    def taken(self) -> str | None:
        """The moment of exposure before that of scanning, before that of the last change."""
        shot, exif, packet, iptc = self._shot, self._exif, self._xmp, self._iptc
        candidates: list[tuple[Callable[..., str | None], Any, Any]] = [
            (values.moment, shot.get(_TAKEN), shot.get(_TAKEN_OFFSET)),
            (values.moment, packet.text(xmp.DATE_TIME_ORIGINAL), None),
            (values.moment, packet.text(xmp.DATE_CREATED), None),
            (values.iptc_moment, iptc.get(_IPTC_DATE), iptc.get(_IPTC_TIME)),
            (values.moment, shot.get(_DIGITIZED), shot.get(_DIGITIZED_OFFSET)),
            (values.moment, packet.text(xmp.CREATE_DATE), None),
            (values.moment, exif.get(_DATE_TIME), shot.get(_OFFSET)),
        ]
        if self._raw is not None:
            candidates.append((values.moment, self._raw.taken(), None))
        for parse, written, second in candidates:
            moment = self.read("date", partial(parse, written, second), None)
            if moment is not None:
                return moment
        return None

    def camera(self) -> str | None:
        make = values.text(self._exif.get(_MAKE)) or values.text(self._xmp.text(xmp.MAKE))
        model = values.text(self._exif.get(_MODEL)) or values.text(self._xmp.text(xmp.MODEL))
        return values.camera(make, model)

    def lens(self) -> str | None:
        name = self._shot.get(_LENS_MODEL) or self._xmp.text(xmp.LENS_MODEL, xmp.LENS)
        if name is None and self._raw is not None:
            name = self._raw.lens()
        return values.text(name)

    def position(self) -> tuple[float | None, float | None]:
        gps = self._gps
        latitude = values.degrees(gps.get(_GPS_LATITUDE), gps.get(_GPS_LATITUDE_REF), 90)
        longitude = values.degrees(gps.get(_GPS_LONGITUDE), gps.get(_GPS_LONGITUDE_REF), 180)
        if latitude is None or longitude is None:
            latitude = values.xmp_degrees(self._xmp.text(xmp.LATITUDE), 90)
            longitude = values.xmp_degrees(self._xmp.text(xmp.LONGITUDE), 180)
        # A receiver without a fix writes 0, 0.
        if latitude is None or longitude is None or latitude == longitude == 0:
            return None, None
        return latitude, longitude

    def rating(self) -> int | None:
        rating = values.rating(self._xmp.text(xmp.RATING))
        return rating if rating is not None else values.rating(self._exif.get(_RATING))

    def keywords(self) -> tuple[str, ...]:
        found = (values.text(word, keep=values.JOINERS) for word in self._all_keywords())
        return tuple(dict.fromkeys(word for word in found if word))[:_MAX_KEYWORDS]

    def _all_keywords(self) -> Iterator[Any]:
        yield from self._xmp.items(xmp.SUBJECT)
        listed = self._iptc.get(_IPTC_KEYWORD, [])
        yield from listed if isinstance(listed, list) else [listed]
        windows = self._exif.get(_XP_KEYWORDS)
        if windows:
            yield from bytes(windows).decode("utf-16-le", errors="ignore").split(";")


def _iptc(image: Image.Image) -> Mapping[Any, Any]:
    return IptcImagePlugin.getiptcinfo(image) or {}  # type: ignore[arg-type]
