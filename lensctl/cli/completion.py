"""What Tab offers in bash, zsh and fish, answered from a table of all commands.

A shell starts a process with every press of Tab. Typer would load each command, and what checks its
options, to find their names; the table beside this file holds them (docs/generate.py makes it, a
test compares it with the commands). Variables and answers are as Typer's scripts, which
`--install-completion` installs, ask and expect them.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("completion.json")

Node = dict[str, Any]
"""A command: "help"; "options", each with "names", "help", "value" (empty for a flag) and
"repeats"; "arguments", the values of its positions, of which the last repeats; "commands"."""

Offers = list[tuple[str, str]]
"""What a word may become, and a line about it."""

Value = str | list[str]
"""What stands in a place: "file", "folder", "model", "text", or one of some words."""


def answer(environment: Mapping[str, str]) -> bool:
    """Print what Typer's script for a shell asks for; False where the shell is none of ours."""
    shell = environment["_LENSCTL_COMPLETE"].removeprefix("complete_")
    if shell == "bash":
        words = environment["COMP_WORDS"].split("\n")
        place = int(environment["COMP_CWORD"])
        offers, _ = complete(_joined(words[1:place]), "".join(words[place : place + 1]))
        print("\n".join(value for value, _ in offers))
        return True
    if shell not in ("zsh", "fish"):
        return False
    line = environment.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    started = words.pop() if words and not line.endswith(" ") else ""
    offers, value = complete(words, started)
    if shell == "zsh":
        print(_for_zsh(offers, value))
    elif environment.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        sys.exit(0 if offers else 1)  # 1: fish offers files
    else:
        print("\n".join(f"{one}\t{about}" if about else one for one, about in offers))
    return True


def complete(words: list[str], started: str) -> tuple[Offers, Value]:
    """What the last word, of which `started` is typed, may become after the words before it.

    Returns the offers, and what stands in this place where there is none: a "file", for one.
    """
    name, equals, value_started = started.partition("=")
    if equals and name.startswith("--"):
        offers, value = complete([*words, name], value_started)
        return [(f"{name}={one}", about) for one, about in offers], value
    node, options, position, pending = _walk(words)
    if pending:
        return _values(pending, started)
    if started.startswith("-") and "--" not in words:
        return [one for one in _options(options) if one[0].startswith(started)], "text"
    if commands := node.get("commands"):
        named = [(name, command["help"]) for name, command in commands.items()]
        return [one for one in named if one[0].startswith(started)], "text"
    arguments = node["arguments"]
    return _values(arguments[min(position, len(arguments) - 1)] if arguments else "text", started)


def _walk(words: list[str]) -> tuple[Node, list[Node], int, Value]:
    """The command that words lead to, its options not yet given, how many arguments it has, and
    the value that an option at the end still waits for (empty: none)."""
    node = json.loads(TABLE.read_bytes())
    options, position, pending = node["options"], 0, ""
    for number, word in enumerate(words):
        if pending:
            pending = ""
        elif word.startswith("-") and word != "-" and "--" not in words[:number]:
            name, equals, _ = word.partition("=")
            given = next((one for one in options if name in one["names"]), None)
            if given is not None:
                pending = "" if equals else given["value"]
                options = [one for one in options if one is not given or one["repeats"]]
        elif word in node.get("commands", {}):
            node = node["commands"][word]
            options = node["options"]
        else:
            position += 1
    return node, options, position, pending


def _options(options: list[Node]) -> Offers:
    return [(name, one["help"]) for one in options for name in one["names"]]


def _values(value: Value, started: str) -> tuple[Offers, Value]:
    choices = _model_names() if value == "model" else value if isinstance(value, list) else []
    return [(one, "") for one in choices if one.startswith(started)], value


def _model_names() -> list[str]:
    from lensctl.models.home import EMBEDDED, models_home, names_here

    try:
        here = [name for name in names_here() if (models_home() / name).is_dir()]
    except OSError:  # Tab is no place for errors
        here = []
    return sorted([EMBEDDED, *here])


def _joined(words: list[str]) -> list[str]:
    """bash gives --option=value as three words: without the equals sign it is what is meant."""
    return [_unquoted(word) for word in words if word != "="]


def _unquoted(word: str) -> str:
    return " ".join(_split(word)) if word else word


def _split(line: str) -> list[str]:
    """The words of a line that may end amid quotes."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
    return words


def _for_zsh(offers: Offers, value: Value) -> str:
    if not offers:
        return {"folder": "_files -/", "file": "_files", "model": "_files -/"}.get(str(value), "")
    rows = " ".join(
        _quoted(f"{_plain(one)}:{about}" if about else _plain(one)) for one, about in offers
    )
    return f"local -a lensctl_offers; lensctl_offers=({rows}); _describe lensctl lensctl_offers"


def _plain(value: str) -> str:
    return value.replace(":", "\\:")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
