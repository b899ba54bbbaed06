"""The few properties that are read from an XMP packet (ISO 16684-1)."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_XML_BYTES = 16 << 20

RATING = "{http://ns.adobe.com/xap/1.0/}Rating"
CREATE_DATE = "{http://ns.adobe.com/xap/1.0/}CreateDate"
DATE_CREATED = "{http://ns.adobe.com/photoshop/1.0/}DateCreated"
DATE_TIME_ORIGINAL = "{http://ns.adobe.com/exif/1.0/}DateTimeOriginal"
LATITUDE = "{http://ns.adobe.com/exif/1.0/}GPSLatitude"
LONGITUDE = "{http://ns.adobe.com/exif/1.0/}GPSLongitude"
MAKE = "{http://ns.adobe.com/tiff/1.0/}Make"
MODEL = "{http://ns.adobe.com/tiff/1.0/}Model"
LENS = "{http://ns.adobe.com/exif/1.0/aux/}Lens"
LENS_MODEL = "{http://cipa.jp/exif/1.0/}LensModel"
SUBJECT = "{http://purl.org/dc/elements/1.1/}subject"


class Xmp:
    """The properties of one packet; those that it does not have are None or empty.

    Args:
        packet: its bytes; b"" gives one without properties.

    Raises:
        ValueError: not XML, too long, or XML that declares entities (which XMP never does).
    """

    def __init__(self, packet: bytes) -> None:
        self._descriptions: list[Element] = []
        packet = packet.strip(b"\x00 \n\r\t")
        if not packet:
            return
        if len(packet) > _XML_BYTES:
            raise ValueError(f"{len(packet)} bytes of XMP")
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, fromstring

        try:
            root = fromstring(packet)
        except (ParseError, DefusedXmlException) as error:
            raise ValueError(str(error)) from error
        # The outermost describe the photo; those inside them its places, its ingredients.
        outermost = next(root.iter(f"{_RDF}RDF"), root)
        self._descriptions = outermost.findall(f"{_RDF}Description")

    def text(self, *names: str) -> str | None:
        """The first of the named simple properties that is there, written either way XMP allows."""
        for name in names:
            for description in self._descriptions:
                value = description.get(name)
                if value is None:
                    value = description.findtext(name)
                if value and value.strip():
                    return value.strip()
        return None

    def items(self, name: str) -> Iterator[str]:
        """The items of a list property."""
        for description in self._descriptions:
            for listed in description.findall(name):
                for item in listed.iter(f"{_RDF}li"):
                    if item.text and item.text.strip():
                        yield item.text.strip()
