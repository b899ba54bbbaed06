"""Reading pages: addresses, words, languages, and pages that mean harm."""

import pytest

from lensctl_training.mining.config import PageLimits
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.html import decode_html, largest_of, read_page
from lensctl_training.mining.records import Mention, Page
from lensctl_training.mining.urls import absolute, site_of

BASE = "http://example.com/a/page.html"


def read(html: str, limits: PageLimits | None = None) -> tuple[Page | None, Funnel]:
    funnel = Funnel()
    return read_page(html, BASE, limits or PageLimits(), funnel), funnel


def mention(html: str) -> Mention:
    page, _ = read(html)
    assert page is not None
    assert len(page.mentions) == 1
    return page.mentions[0]


@pytest.mark.parametrize(
    ("html", "first"),
    [
        ('<img src="x.png">', "http://example.com/a/x.png"),
        ('<base href="http://cdn.net/"><img src="x.png">', "http://cdn.net/x.png"),
        ('<img src="data:image/gif;base64,R0" data-src="/big.jpg">', "http://example.com/big.jpg"),
        ('<img src="s.jpg" srcset="m.jpg 2x, l.jpg 3x">', "http://example.com/a/l.jpg"),
        (
            '<picture><source srcset="w_1,h_2/a.webp 480w, w_9,h_9/b.webp 960w"><img></picture>',
            "http://example.com/a/w_9,h_9/b.webp",
        ),
        ('<img src="a b&amp;c.png">', "http://example.com/a/a%20b&c.png"),
        ('<noscript><img src="n.png"></noscript>', "http://example.com/a/n.png"),
    ],
)
def test_the_best_address_comes_first(html: str, first: str) -> None:
    assert mention(html).urls[0] == first


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("file:///etc/passwd", "address is not http(s)"),
        ("javascript:alert(1)", "address is not http(s)"),
        ("data:image/png;base64,AAAA", "inline data"),
        ("http://[::1", "malformed address"),
        ("x" * 5000, "address too long"),
        ("", "no address"),
        ("https:///nohost.png", "malformed address"),
    ],
)
def test_addresses_that_lead_nowhere_are_refused(reference: str, reason: str) -> None:
    assert absolute(BASE, reference) == ("", reason)


def test_words_around_an_image_are_told_apart() -> None:
    found = mention(
        "<title>T</title><h1>1.2. Tools</h1><h2>Pencil</h2><p>Text before it.</p>"
        '<div class="figure"><p class="title">Figure 3.1. The pencil</p>'
        '<div class="mediaobject"><img src="p.png" alt="a pencil" title="tip">'
        '<div class="caption"><p>Sharp  end</p></div></div></div><p>Text after it.</p>'
    )
    assert found.headings == ("Tools", "Pencil")
    assert (found.alt, found.title) == ("a pencil", "tip")
    assert (found.caption, found.figure) == ("Sharp end", "Figure 3.1. The pencil")
    assert found.before.endswith("Figure 3.1. The pencil")
    assert found.after.startswith("Sharp end Text after")


def test_two_images_of_a_figure_keep_their_own_captions() -> None:
    page, _ = read(
        '<figure><div class="thumb"><img src="1.png"><p class="caption">Before</p></div>'
        '<div class="thumb"><img src="2.png"><p class="caption">After</p></div></figure>'
    )
    assert page is not None
    assert [m.caption for m in page.mentions] == ["Before", "After"]


def test_the_term_of_a_definition_belongs_to_its_images() -> None:
    assert mention('<dl><dt>Radius</dt><dd><p><img src="r.png"></p></dd></dl>').term == "Radius"


@pytest.mark.parametrize(
    ("html", "language"),
    [
        ('<html lang="de-AT"><img src=x>', "de"),
        ("<img src=x><p>" + "This is the text of a page that you can read in it. " * 4, "en"),
        ("<img src=x><p>" + "Dies ist der Text einer Seite und man kann ihn lesen. " * 4, "other"),
        ("<img src=x><p>too short", ""),
    ],
)
def test_language(html: str, language: str) -> None:
    page, _ = read(html)
    assert page is not None
    assert page.language == language


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("\ufeffäö".encode(), "äö"),
        (b'<meta charset="iso-8859-1">\xe4', '<meta charset="iso-8859-1">ä'),
        ("ж".encode(), "ж"),
        (b"\x93quoted\x94 \xe9", "“quoted” é"),
        (b'<meta charset="no-such-charset">\xe9', '<meta charset="no-such-charset">é'),
    ],
)
def test_any_bytes_become_text(data: bytes, text: str) -> None:
    assert decode_html(data) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("where", ["in the page", "in the HTTP header"])
@pytest.mark.parametrize(
    "charset",
    ["punycode", "idna", "unicode_escape", "raw-unicode-escape", "utf-7", "rot13", "bz2", "hex"],
)
def test_what_is_no_encoding_of_the_web_is_not_used(charset: str, where: str) -> None:
    """Punycode alone would take minutes for this page, and longer for one of the largest size."""
    named = charset if where == "in the page" else ""
    data = f'<meta charset="{named}">+2AA- \\x41 -'.encode() + b"a" * 2**20
    assert decode_html(data, "" if named else charset) == data.decode()


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("windows-1251", "Фото"), ("koi8-r", "Фото"), ("Shift_JIS", "写真"), ("EUC-JP", "写真"),
        ("EUC-KR", "사진"), ("GB2312", "照片"), ("gb18030", "照片"), ("Big5", "照片"),
        ("iso-2022-jp", "写真"), ("macintosh", "é"), ("latin1", "é"),
        ("ISO-8859-15", "€"), ("us-ascii", "photo"), ("tis-620", "ภาพ"), ("utf8", "ภาพ"),
    ],
)  # fmt: skip
def test_encodings_of_the_web_are_used(charset: str, text: str) -> None:
    assert decode_html(text.encode(charset), charset) == text


def test_largest_of_a_srcset() -> None:
    assert largest_of("a.jpg 100w, b.jpg 900w, c.jpg 300w") == "b.jpg"
    assert largest_of("a.jpg, b.jpg 2x") == "b.jpg"
    assert largest_of("a.jpg wide, , ,") == ""


@pytest.mark.timeout(60)
def test_deep_nesting_is_refused_unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    # The parser alone needs minutes for such a page.
    monkeypatch.setattr("lensctl_training.mining.html.LexborHTMLParser", None)
    page, funnel = read("<div>" * 300_000 + "<img src=x.png>")
    assert page is None
    assert funnel.rejected["pages"] == {"elements nested too deep": 1}


def test_a_huge_attribute_is_cut() -> None:
    found = mention(f'<img src="x.png" alt="{"word " * 700_000}">')
    assert len(found.alt) <= 300


def test_more_images_than_a_page_may_show_are_counted() -> None:
    page, funnel = read("<img src=x.png>" * 30, PageLimits(max_images=10))
    assert page is not None
    assert len(page.mentions) == 10
    assert funnel.rejected["images"] == {"page shows too many images": 20}


def test_malformed_html_gives_what_it_can() -> None:
    page, _ = read('<table><div><img src=a.png <b>bold</table></p></p><img src="b.png" alt=\x00ok>')
    assert page is not None
    assert page.mentions[-1].urls == ("http://example.com/a/b.png",)


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        ("a+b.png", "a+b.png"),
        ("a%2Bb.png", "a+b.png"),
        ("a%2bb%20c.png", "a+b%20c.png"),
        ("a b\u00e9.png", "a%20b%C3%A9.png"),
        ("a%2Fb%3Fc.png", "a%2Fb%3Fc.png"),
        ("100%.png", "100%25.png"),
        ("100%25.png", "100%25.png"),
        ("%7Ea.png?x=%2B", "~a.png?x=%2B"),
    ],
)
def test_one_path_has_one_spelling(spelling, address):
    assert absolute("http://a.example/p/", spelling) == (f"http://a.example/p/{address}", "")


def test_sites_are_registrable_domains() -> None:
    assert site_of("http://www.shop.example.co.uk/x") == "example.co.uk"
    assert site_of("http://alice.blogspot.com/") == "alice.blogspot.com"
    assert site_of("http://192.168.0.1/") == "192.168.0.1"
    assert site_of("http://handbook.invalid/a") == "handbook.invalid"
