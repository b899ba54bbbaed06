"""Facts are read from EXIF, IPTC and XMP of every format, and damage is told, never raised."""

import io
import random
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from lensctl.photos import values
from lensctl.photos.decode import decode, open_photo
from lensctl.photos.facts import Facts, read_facts
from support.image_files import encoded, exif_bytes, quarters

SHOT = {0x9003: "2024:07:01 12:30:05", 0x9011: "+02:00", 0xA434: "Nokton 35mm"}
GPS = {1: "N", 2: (48.0, 51.0, 30.0), 3: "W", 4: (2.0, 17.0, 24.0)}
TAGS = {0x010F: "Lens Works", 0x0110: "Model 1", 0x4746: 4}


def facts_of(data: bytes) -> Facts:
    with open_photo(io.BytesIO(data), b"", max_pixels=10**8) as photo:
        return read_facts(photo)


def jpeg(**options: Any) -> bytes:
    return encoded(quarters(), "JPEG", **options)


def shot_at(*dates: tuple[int, str]) -> str | None:
    return facts_of(jpeg(exif=exif_bytes({}, dict(dates)))).taken


def xmp(properties: str = "", attributes: str = "") -> bytes:
    spaces = (
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/"'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
        ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:aux="http://ns.adobe.com/exif/1.0/aux/"'
    )
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f"<rdf:RDF {spaces}><rdf:Description {attributes}>{properties}</rdf:Description></rdf:RDF>"
        "</x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def iptc(*records: tuple[int, bytes]) -> bytes:
    """A JPEG with an IPTC block, as Photoshop embeds it."""
    block = b"".join(
        b"\x1c\x02" + bytes([number]) + len(value).to_bytes(2) + value for number, value in records
    )
    block += b"\0" * (len(block) % 2)
    resource = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(block).to_bytes(4) + block
    data = jpeg()
    return data[:2] + b"\xff\xed" + (len(resource) + 2).to_bytes(2) + resource + data[2:]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_of_every_format(format: str) -> None:
    facts = facts_of(encoded(quarters(), format, exif=exif_bytes(TAGS, SHOT, GPS)))
    assert facts.taken == "2024-07-01T12:30:05+02:00"
    assert (facts.camera, facts.lens, facts.rating) == ("Lens Works Model 1", "Nokton 35mm", 4)
    assert facts.latitude == pytest.approx(48.8583333, abs=1e-6)
    assert facts.longitude == pytest.approx(-2.29, abs=1e-6)
    assert (facts.width, facts.height, facts.format, facts.problems) == (120, 80, format, ())


def png_with_profile(text: str) -> bytes:
    """A PNG with EXIF in a text chunk, as ImageMagick writes it."""
    info = PngInfo()
    info.add_text("Raw profile type exif", text, zip=True)
    return encoded(quarters(), "PNG", pnginfo=info)


def test_exif_in_the_text_of_a_png() -> None:
    exif = exif_bytes(TAGS | {0x0112: 6}, SHOT)
    digits = exif.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    facts = facts_of(png_with_profile(f"\nexif\n{len(exif):8}\n{lines}\n"))
    assert (facts.taken, facts.camera) == ("2024-07-01T12:30:05+02:00", "Lens Works Model 1")
    assert (facts.orientation, facts.width, facts.height, facts.problems) == (6, 80, 120, ())


@pytest.mark.parametrize("hex", ["4578zz", "4", "4d4d", "é"])
def test_damaged_exif_in_the_text_of_a_png_is_told(hex: str) -> None:
    data = png_with_profile(f"\nexif\n       9\n{hex}\n")
    assert "EXIF" in facts_of(data).problems[0]
    assert decode(io.BytesIO(data), at_least=20).width == 120


@pytest.mark.parametrize("format", ["BMP", "GIF", "JPEG2000", "PNG", "JPEG"])
def test_a_photo_without_metadata(format: str) -> None:
    assert facts_of(encoded(quarters(), format)) == Facts(120, 80, format)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_xmp_of_every_format(format: str) -> None:
    bag = "<dc:subject><rdf:Bag><rdf:li>harbour</rdf:li><rdf:li>Zoë</rdf:li></rdf:Bag></dc:subject>"
    packet = xmp(bag, 'xmp:Rating="3" exif:GPSLatitude="48,51.5N" exif:GPSLongitude="2,17,24W"')
    if format == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        data = encoded(quarters(), format, pnginfo=info)
    elif format == "TIFF":
        data = encoded(quarters(), format, tiffinfo={700: packet})
    else:
        data = encoded(quarters(), format, xmp=packet)
    facts = facts_of(data)
    assert (facts.rating, facts.keywords, facts.problems) == (3, ("harbour", "Zoë"), ())
    assert (facts.latitude, facts.longitude) == pytest.approx((48.8583333, -2.29), abs=1e-6)


def test_xmp_as_elements() -> None:
    properties = "<xmp:Rating>-1</xmp:Rating><tiff:Make>Acme</tiff:Make><aux:Lens>50mm</aux:Lens>"
    date = "<photoshop:DateCreated>2019-05-04T10:11:12.5-03:00</photoshop:DateCreated>"
    facts = facts_of(jpeg(xmp=xmp(properties + date)))
    assert (facts.rating, facts.camera, facts.lens) == (-1, "Acme", "50mm")
    assert facts.taken == "2019-05-04T10:11:12-03:00"


INGREDIENT = (
    "<exif:DateTimeOriginal>2009-01-01T00:00:00</exif:DateTimeOriginal>"
    "<tiff:Make>Acme</tiff:Make><xmp:Rating>5</xmp:Rating>"
    "<exif:GPSLatitude>35,21.6N</exif:GPSLatitude><exif:GPSLongitude>138,43.2E</exif:GPSLongitude>"
    "<dc:subject><rdf:Bag><rdf:li>ingredient</rdf:li></rdf:Bag></dc:subject>"
)


@pytest.mark.parametrize(
    "item",
    [
        f"<rdf:li><rdf:Description>{INGREDIENT}</rdf:Description></rdf:li>",
        f'<rdf:li rdf:parseType="Resource">{INGREDIENT}</rdf:li>',
    ],
)
def test_xmp_of_what_a_photo_shows_or_is_made_of_is_not_the_photo_s(item: str) -> None:
    own = "<dc:subject><rdf:Bag><rdf:li>mine</rdf:li></rdf:Bag></dc:subject>"
    date = "<xmp:CreateDate>2023-05-05T10:00:00</xmp:CreateDate>"
    within = f"<photoshop:Ingredients><rdf:Bag>{item}</rdf:Bag></photoshop:Ingredients>"
    facts = facts_of(jpeg(xmp=xmp(within + own + date)))
    assert facts == Facts(120, 80, "JPEG", taken="2023-05-05T10:00:00", keywords=("mine",))


@pytest.mark.parametrize("stars", [5, 0])
def test_an_editor_s_rating_is_newer_than_the_camera_s(stars: int) -> None:
    data = jpeg(exif=exif_bytes({0x4746: 1}), xmp=xmp("", f'xmp:Rating="{stars}"'))
    assert facts_of(data).rating == stars


@pytest.mark.parametrize(
    ("written", "read"), [("-2", None), ("-1", -1), ("0", 0), ("5", 5), ("6", None), ("99", None)]
)
def test_ratings_are_of_five_stars_or_rejected(written: str, read: int | None) -> None:
    assert facts_of(jpeg(xmp=xmp("", f'xmp:Rating="{written}"'))).rating == read


def test_no_photo_fills_the_library_with_keywords() -> None:
    words = "".join(f"<rdf:li>word {n}</rdf:li>" for n in range(1200))
    data = jpeg(xmp=xmp(f"<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>"))
    assert facts_of(data).keywords == tuple(f"word {n}" for n in range(1000))


def test_an_endless_xmp_packet_is_not_parsed() -> None:
    packet = xmp("<!--" + "x" * (16 << 20) + "-->", 'xmp:Rating="5"')
    facts = facts_of(encoded(quarters(), "TIFF", tiffinfo={700: packet}))
    assert facts.rating is None
    assert "XMP" in facts.problems[0]


def test_iptc() -> None:
    facts = facts_of(
        iptc((25, "Zürich".encode()), (25, b"lake"), (55, b"20180203"), (60, b"040506+0100"))
    )
    assert facts.keywords == ("Zürich", "lake")
    assert facts.taken == "2018-02-03T04:05:06+01:00"


@pytest.mark.parametrize(
    ("written", "read"), [(b"19650700", "1965-07-01"), (b"19650000", "1965-01-01")]
)
def test_iptc_date_of_a_month_or_a_year(written: bytes, read: str) -> None:
    facts = facts_of(iptc((55, written)))
    assert (facts.taken, facts.problems) == (f"{read}T00:00:00", ())


@pytest.mark.parametrize(
    ("original", "created", "read"),
    [
        ("1965", "1970-02-03T04:05:06", "1965-01-01T00:00:00"),
        ("summer", "1970-02-03T04:05:06", "1970-02-03T04:05:06"),
        ("0000-00-00T00:00:00", "1970-02", "1970-02-01T00:00:00"),
    ],
)
def test_the_first_xmp_date_that_is_one(original: str, created: str, read: str) -> None:
    """And before the date of the scan."""
    attributes = f'exif:DateTimeOriginal="{original}" photoshop:DateCreated="{created}"'
    scan = exif_bytes({}, {0x9004: "2019:03:03 10:00:00"})
    assert facts_of(jpeg(exif=scan, xmp=xmp("", attributes))).taken == read


def test_keywords_of_all_three_are_joined() -> None:
    windows = "lake;Harbour;".encode("utf-16-le") + b"\0\0"
    exif = exif_bytes({0x9C9E: windows})
    data = iptc((25, b"lake"), (25, b"boat"))
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + data[2:]
    assert set(facts_of(data).keywords) == {"lake", "boat", "Harbour"}


def test_keywords_keep_what_joins_their_characters_and_no_other_format() -> None:
    words = "👨\u200d👩\u200d👧", "می\u200cخواهم", "a\u202eb\ufeffc"
    bag = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    facts = facts_of(jpeg(xmp=xmp(f"<dc:subject><rdf:Bag>{bag}</rdf:Bag></dc:subject>")))
    assert facts.keywords == (*words[:2], "a b c")


def test_a_camera_s_name_from_xmp_can_be_printed() -> None:
    names = "<tiff:Make>a\u009b31mb</tiff:Make><tiff:Model>c\u202ed\u200de</tiff:Model>"
    assert facts_of(jpeg(xmp=xmp(names))).camera == "a 31mb c d e"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024:07:01 12:30:05", "2024-07-01T12:30:05"),
        ("2024-07-01 12:30:05", "2024-07-01T12:30:05"),
        ("2024:07:01 12:30:05.678", "2024-07-01T12:30:05"),
        ("2024:07:01 12:30:60", "2024-07-01T12:30:59"),
        ("2024:07:01 12:30:05+05:30", "2024-07-01T12:30:05+05:30"),
        ("2024:07:01", "2024-07-01T00:00:00"),
        ("2024:07:01   12:30", "2024-07-01T12:30:00"),
        ("2024:07:01 1:30:05 PM", "2024-07-01T00:00:00"),
        ("2004: 5: 1 12: 3:05", "2004-05-01T12:03:05"),
        ("2012:08:10 24:05:00", "2012-08-10T00:00:00"),
        ("1965:00:00 00:00:00", "1965-01-01T00:00:00"),
        ("1965:  :     :  :  ", "1965-01-01T00:00:00"),
        ("1965:07:     :  :  ", "1965-07-01T00:00:00"),
        ("1965:07:  00:00:00", "1965-07-01T00:00:00"),
        ("1965:07:  ", "1965-07-01T00:00:00"),
        ("1965:00:08", "1965-01-01T00:00:00"),
        ("1965-07", "1965-07-01T00:00:00"),
        ("1965", "1965-01-01T00:00:00"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("", None),
    ],
)
def test_dates_as_cameras_write_them(written: str, read: str | None) -> None:
    facts = facts_of(jpeg(exif=exif_bytes({}, {0x9003: written})))
    assert (facts.taken, facts.problems) == (read, ())


@pytest.mark.parametrize(
    "written",
    [
        *("2024:13:41 12:30:05", "yesterday", "2024:02:30 00:00:00", "0000:07:01", "20245"),
        *("2024:13", "2024:5:7", "2024:07: 23:30:00", "2024-0705", "2024 or so"),
    ],
)
def test_impossible_dates_are_told(written: str) -> None:
    facts = facts_of(jpeg(exif=exif_bytes({}, {0x9003: written})))
    assert facts.taken is None
    assert "date" in facts.problems[0]


def test_an_impossible_date_does_not_hide_the_next_best() -> None:
    facts = facts_of(
        jpeg(exif=exif_bytes({}, {0x9003: "2024:13:41 12:30:05", 0x9004: "2020:01:02 03:04:05"}))
    )
    assert facts.taken == "2020-01-02T03:04:05"
    assert len(facts.problems) == 1


def test_which_date_is_believed() -> None:
    tags = {0x0132: "2021:01:01 00:00:00"}
    scanned = {0x9004: "2020:01:01 00:00:00"}
    assert facts_of(jpeg(exif=exif_bytes(tags))).taken == "2021-01-01T00:00:00"
    assert facts_of(jpeg(exif=exif_bytes(tags, scanned))).taken == "2020-01-01T00:00:00"
    shot = scanned | {0x9003: "2019:01:01 00:00:00"}
    assert facts_of(jpeg(exif=exif_bytes(tags, shot))).taken == "2019-01-01T00:00:00"


@pytest.mark.parametrize(
    ("date", "offset_beside_it", "taken"),
    [(0x9003, 0x9011, 1), (0x9004, 0x9012, 1), (0x0132, 0x9010, 1), (0x9004, 0x9011, 0)],
)
def test_an_offset_is_that_of_its_own_date(date: int, offset_beside_it: int, taken: int) -> None:
    at = {date: "2024:07:01 12:30:05"}
    tags, shot = (at, {}) if date == 0x0132 else ({}, at)
    facts = facts_of(jpeg(exif=exif_bytes(tags, shot | {offset_beside_it: "+02:00"})))
    assert facts.taken == "2024-07-01T12:30:05" + "+02:00" * taken


@pytest.mark.parametrize("offset", ["+15:00", "+02:60", "2 hours"])
def test_an_impossible_offset_is_none(offset: str) -> None:
    data = jpeg(exif=exif_bytes({}, {0x9003: "2024:07:01 12:30:05", 0x9011: offset}))
    assert facts_of(data).taken == "2024-07-01T12:30:05"


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("Apple\0\0\0", "  iPhone 15 ", "Apple iPhone 15"),
        ("", "iPhone", "iPhone"),
        ("Acme", "", "Acme"),
        ("   ", "\0", None),
    ],
)
def test_camera_names(make: str, model: str, name: str | None) -> None:
    assert facts_of(jpeg(exif=exif_bytes({0x010F: make, 0x0110: model}))).camera == name


def test_no_position_where_the_receiver_had_no_fix() -> None:
    for gps in (
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {2: (48.0, 51.0, 30.0)},
        {1: "N", 2: (IFDRational(0, 0),) * 3, 3: "E", 4: (1.0, 2.0, 3.0)},
    ):
        facts = facts_of(jpeg(exif=exif_bytes({}, {}, gps)))
        assert (facts.latitude, facts.longitude, facts.problems) == (None, None, ())


@pytest.mark.parametrize(("north", "west"), [((48.0, 51.5), (2.0, 17.4)), ((48.8583333,), (2.29,))])
def test_positions_without_seconds_or_minutes(north: Any, west: Any) -> None:
    facts = facts_of(jpeg(exif=exif_bytes({}, {}, {1: "N", 2: north, 3: "W", 4: west})))
    assert (facts.latitude, facts.longitude) == pytest.approx((48.8583333, -2.29), abs=1e-6)


@pytest.mark.parametrize("latitude", [(), (1.0, 2.0, 3.0, 4.0), "48", b"48"])
def test_a_position_of_another_shape_is_none(latitude: Any) -> None:
    assert values.degrees(latitude, "N", 90) is None


def test_a_side_of_the_world_may_be_spelled_out() -> None:
    gps = {1: "South", 2: (48.0, 30.0, 0.0), 3: "West", 4: (2.0, 0.0, 0.0)}
    facts = facts_of(jpeg(exif=exif_bytes({}, {}, gps)))
    assert (facts.latitude, facts.longitude) == (-48.5, -2.0)


def test_an_impossible_position_is_told() -> None:
    gps = {1: "N", 2: (148.0, 51.0, 30.0), 3: "E", 4: (1.0, 2.0, 3.0)}
    facts = facts_of(jpeg(exif=exif_bytes({}, {}, gps)))
    assert facts.latitude is None
    assert "position" in facts.problems[0]


def test_an_entity_bomb_in_xmp_is_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'
    for packet in (bomb, b"<x><y></x>", b"\xff\xfe\xfd", b"plain text"):
        facts = facts_of(jpeg(xmp=packet))
        assert "XMP" in facts.problems[0]


def test_damaged_exif_never_raises() -> None:
    whole = exif_bytes(TAGS, SHOT, GPS)
    chance = random.Random(7)
    told = 0
    for _ in range(300):
        spoiled = bytearray(whole)
        for _ in range(chance.randint(1, 12)):
            spoiled[chance.randrange(6, len(spoiled))] = chance.randrange(256)
        if chance.random() < 0.3:
            del spoiled[chance.randrange(8, len(spoiled)) :]
        facts = facts_of(jpeg(exif=bytes(spoiled)))
        told += bool(facts.problems)
        assert facts.camera is None or facts.camera.isprintable()
    assert told > 20


def test_text_is_one_clean_line() -> None:
    facts = facts_of(jpeg(exif=exif_bytes({0x0110: "a\nb\tc\x1b[31m" + "x" * 9000})))
    assert facts.camera is not None
    assert facts.camera.startswith("a b c [31m")
    assert len(facts.camera) <= 500


def test_metadata_survives_orientation() -> None:
    exif = exif_bytes(TAGS | {0x0112: 6}, SHOT)
    facts = facts_of(jpeg(exif=exif))
    assert (facts.width, facts.height, facts.orientation) == (80, 120, 6)
    turned = facts_of(encoded(quarters(), "TIFF", exif=exif))
    assert (turned.width, turned.height, turned.orientation) == (80, 120, 6)


def test_reading_facts_decodes_no_pixels() -> None:
    data = jpeg(exif=exif_bytes(TAGS, SHOT))
    header = data[: data.index(b"\xff\xda") + 20]
    assert facts_of(header).camera == "Lens Works Model 1"
    assert Image.open(io.BytesIO(data)).size == (120, 80)
