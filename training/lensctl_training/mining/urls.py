"""Addresses found in pages: made absolute, refused where they lead where nobody should go."""

import hashlib
from functools import cache
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin, urlsplit, urlunsplit

MAX_LENGTH = 2048
_LEGAL_IN_SEGMENT = ":@!$&'()*+,;="
_LEGAL_IN_QUERY = "/%?" + _LEGAL_IN_SEGMENT


def absolute(base: str, reference: str) -> tuple[str, str]:
    """(address, "") or ("", reason). Only http and https addresses of legal length pass.

    One path has one spelling: a page's `a+b.jpg` is the archive's `a%2Bb.jpg`.
    """
    reference = reference.strip()
    if not reference:
        return "", "no address"
    if reference[:5].lower() == "data:":
        return "", "inline data"
    if len(reference) > MAX_LENGTH:
        return "", "address too long"
    try:
        parts = urlsplit(urljoin(base, reference))
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "", "malformed address"
    if parts.scheme not in ("http", "https"):
        return "", "address is not http(s)"
    if not host:
        return "", "malformed address"
    segments = (unquote_to_bytes(segment) for segment in parts.path.split("/"))
    path = "/".join(quote(segment, safe=_LEGAL_IN_SEGMENT) for segment in segments)
    query = quote(parts.query, safe=_LEGAL_IN_QUERY)
    return urlunsplit(parts._replace(path=path, query=query, fragment="")), ""


def site_of(url: str) -> str:
    """The registrable domain (example.co.uk) of an address: what val and train never share.

    Private suffixes count, so that two blogs of one hosting service are two sites. A host
    without a known suffix, and an IP address, is its own site.
    """
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if not host or host.replace(".", "").isdigit() or ":" in host:
        return host
    return _suffixes().privatesuffix(host) or host


@cache
def _suffixes():  # type: ignore[no-untyped-def]
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=True)


def stable_fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone, for splits that never change."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def file_name(url: str) -> str:
    """The last piece of the path, unquoted: `cat.jpg`."""
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])
