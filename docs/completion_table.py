"""The table that answers Tab (lensctl/cli/completion.json), made from the commands themselves."""

import json
from typing import Any

import typer

from lensctl.cli.commands import app
from lensctl.config import DEVICES, PRECISIONS, SEARCH_MODES

_BY_METAVAR = {
    "DEVICE": list(DEVICES),
    "PRECISION": list(PRECISIONS),
    "MODE": list(SEARCH_MODES),
    "DIR": "folder",
    "FOLDER": "folder",
    "FILE": "file",
}
_MODELS = {("option", "model"), ("info", "name"), ("remove", "name")}

_REFUSED_TWICE = ("after", "before", "camera", "near", "place")
"""Lists only so that `read_filters` can refuse them."""


def completion_table() -> str:
    """The table as JSON; lensctl/cli/completion.py says what is in it."""
    root = _node(typer.main.get_command(app), "lensctl", None)
    return json.dumps(root, indent=1, ensure_ascii=False) + "\n"


def _node(command: Any, name: str, parent: Any) -> dict[str, Any]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    parameters = [one for one in command.get_params(context) if not getattr(one, "hidden", False)]
    node: dict[str, Any] = {"help": command.get_short_help_str(limit=100).rstrip(".")}
    node["options"] = [_option(one) for one in parameters if one.param_type_name == "option"]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    node["arguments"] = [_value(one, name) for one in arguments]
    if hasattr(command, "commands"):
        node["commands"] = {
            name: _node(one, name, context)
            for name, one in command.commands.items()
            if not one.hidden
        }
    return node


def _option(option: Any) -> dict[str, Any]:
    names = [*option.opts, *option.secondary_opts]
    return {
        "names": sorted(names, key=lambda name: not name.startswith("--")),
        "help": " ".join((option.help or "").split()).rstrip("."),
        "value": "" if option.is_flag or option.count else _value(option, "option"),
        "repeats": option.multiple and option.name not in _REFUSED_TWICE,
    }


def _value(parameter: Any, owner: str) -> str | list[str]:
    if (owner, parameter.name) in _MODELS:
        return "model"
    metavar = (parameter.metavar or "").removesuffix("...")
    if metavar in _BY_METAVAR:
        return _BY_METAVAR[metavar]
    if "path" in parameter.type.name or "IMAGE" in metavar:
        return "file"
    return "text"
