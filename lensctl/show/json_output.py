"""The JSON of results, as docs/json.md documents it."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from lensctl.show.result import Result


def to_json(query: Mapping[str, str], results: Sequence[Result]) -> str:
    """One line of JSON: what was asked, and the results, best first."""
    return json.dumps(
        {"query": _asked(query), "results": [_as_object(result) for result in results]},
        allow_nan=False,
    )


def _asked(query: Mapping[str, str]) -> dict[str, str]:
    keys = {name: _readable(words) for name, words in query.items()}
    if "image" in query:
        keys |= path_keys(os.fsencode(query["image"]), "image")
    return keys


def _as_object(result: Result) -> dict[str, Any]:
    known = {
        **path_keys(result.path),
        "score": round(result.score, 6),
        "cosine": round(result.cosine, 6),
        "copies": result.copies,
        "offline": result.offline,
        "format": result.format,
        "width": result.width,
        "height": result.height,
        "taken": result.taken,
        "camera": result.camera,
        "latitude": result.latitude,
        "longitude": result.longitude,
        "place": result.place,
        "rating": result.rating,
        "keywords": list(result.keywords),
    }
    return known


def path_keys(path: bytes, name: str = "path") -> dict[str, str]:
    """JSON is Unicode: bytes that are not UTF-8 are given in base64 beside a best reading."""
    try:
        return {name: path.decode("utf-8")}
    except UnicodeDecodeError:
        return {
            name: _readable(os.fsdecode(path)),
            f"{name}_base64": base64.b64encode(path).decode("ascii"),
        }


def with_paths(value: Any) -> Any:
    """Dictionaries and lists as JSON takes them: paths in them, which are bytes, by `path_keys`.

    In a list of paths there is room for the best readings alone.
    """
    if isinstance(value, dict):
        keys = dict[str, Any]()
        for name, one in value.items():
            keys |= path_keys(one, name) if isinstance(one, bytes) else {name: with_paths(one)}
        return keys
    if isinstance(value, list):
        return [with_paths(one) for one in value]
    return path_keys(value)["path"] if isinstance(value, bytes) else value


def _readable(text: str) -> str:
    """Bytes that are no UTF-8 come from the command line as lone surrogates."""
    return text.encode("utf-8", "replace").decode()
