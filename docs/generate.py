"""Write docs/reference/ from the code: commands, exit codes, settings, the library's schema.

The table from which shells complete (lensctl/cli/completion.json) is written with it.

python docs/generate.py          writes the pages
python docs/generate.py --check  exits 1 where a page is not what the code says
"""

import ast
import dataclasses
import inspect
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from completion_table import completion_table

from lensctl import errors
from lensctl.cli.commands import app
from lensctl.cli.completion import TABLE
from lensctl.config import Settings
from lensctl.library.recorder import Recorder
from lensctl.models.home import MODELS_VARIABLE
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.endpoint import KEY_VARIABLES

FOLDER = Path(__file__).parent / "reference"
MINING_MEANINGS = {
    "model": "The model that annotates: a name or a folder.",
    "captioner_model": "The name that the captioner's server knows its model by.",
    "device": "One of auto, cpu, cuda, mps.",
    "batch_size": "Images encoded at once.",
    "pages.max_html_bytes": "Longer pages are left out.",
    "pages.max_image_bytes": "Larger image files are left out.",
    "pages.pages_per_part": "Pages in a part of the first stage.",
    "groups.min_side": "Of the shorter side.",
    "groups.min_area": "Width times height.",
    "groups.max_aspect": "The longer side over the shorter.",
    "groups.max_pages": "See `max_page_share`.",
    "groups.max_pixels": "Larger images are not decoded.",
    "pairs.min_image_similarity": "Below it the two images are unrelated.",
    "pairs.max_image_similarity": "Above it they are nearly the same.",
    "pairs.max_text_similarity": "Above it nearly the same is said of both.",
    "pairs.per_page": "Ordered pairs of one page at most.",
    "pairs.per_site": "Pairs of one site at most.",
    "instruct.endpoint": "Address of an OpenAI-compatible server; empty: rules write.",
    "instruct.model": "The name that this server knows the model by.",
    "instruct.concurrency": "Requests under way at once.",
    "instruct.timeout_s": "Seconds to wait for an answer.",
    "instruct.tries": "For one question.",
    "instruct.max_tokens": "Length of an answer at most.",
    "instruct.price_in": "Of a question's tokens.",
    "instruct.price_out": "Of an answer's tokens.",
    "instruct.max_words": "Longer instructions are turned away.",
    "fetch.enabled": "As `--fetch`.",
    "fetch.requests_per_host_per_minute": "Requests at most; they go one at a time.",
    "fetch.concurrency": "Requests under way at once.",
    "fetch.timeout_s": "Seconds to wait for an answer.",
    "fetch.tries": "For one image.",
    "write.val_sites": "Sites that go to val whatever their hash says.",
    "write.max_side": "Longer side in pixels; larger images are made smaller.",
    "write.jpeg_quality": "Of the images in the shards.",
    "write.triplets_per_shard": "Triplets in a shard at most.",
    "write.sheet_rows": "Triplets shown in the report.",
}
"""Of settings under which the code has no words."""
_MADE = "<!-- Made by docs/generate.py from the code; do not edit. -->\n\n"


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    return {
        "commands.md": _commands(),
        "exit-codes.md": _exit_codes(),
        "settings.md": _settings(),
        "mining-settings.md": _mining_settings(),
        "schema.md": _schema(),
    }


def _commands() -> str:
    group = typer.main.get_command(app)
    parts = ["# Commands\n", _help(group, "lensctl")]
    parts += [_help(command, name) for name, command in _walk(group, "lensctl")]
    return "\n".join(parts)


def _walk(group, prefix: str) -> Iterator[tuple[str, object]]:  # type: ignore[no-untyped-def]
    for name, command in group.commands.items():
        if command.hidden:
            continue
        yield f"{prefix} {name}", command
        if hasattr(command, "commands"):
            yield from _walk(command, f"{prefix} {name}")


def _help(command, name: str) -> str:  # type: ignore[no-untyped-def]
    names = {"help_option_names": ["-h", "--help"]}  # as the root hands them down
    context = command.make_context(name, [], resilient_parsing=True, **names)
    context.terminal_width = context.max_content_width = 96
    text = re.sub(r"[ \t]+\n", "\n", command.get_help(context))
    return f"## {name}\n\n```text\n{text.strip()}\n```\n"


def _exit_codes() -> str:
    tree = inspect.cleandoc(errors.__doc__ or "")
    return f"# Exit codes\n\n```text\n{tree}\n```\n\n" + _WITHOUT_ERROR


_WITHOUT_ERROR = """0 is success. 1 is also what `query` and `export` end with where nothing was
found, `duplicates` where there are none, and `forget` where it forgot nothing. `shell`, where its
lines do not come from a terminal, ends with the code of the first line that failed.
"""
_SETTINGS = """# Settings

Flags win over environment variables, those over the config file. The config file is `config.toml`
in the platform's config folder (`~/.config/lensctl` on Linux), or the file that `LENSCTL_CONFIG`
names, which then has to be there (`/dev/null` for none); `lensctl status` prints where it is looked
for. Its keys, and their defaults as TOML:

| key | default | meaning |
|---|---|---|
"""
_VARIABLES = """
Other environment variables:

| variable | meaning |
|---|---|
| `LENSCTL_CONFIG` | the config file |
| `{models}` | the folder of models, instead of `models` in the platform's data folder |
| {keys} | the key of `mine --endpoint` and `--captioner`; the first that is set |
| `HF_ENDPOINT` | where `models pull` gets files instead of `https://huggingface.co` |
| `XDG_CACHE_HOME` | on Linux: where the cache folder `lensctl` lies, instead of `~/.cache` |
| `XDG_CONFIG_HOME` | the same of the config folder, instead of `~/.config` |
| `XDG_DATA_HOME` | the same of the data folder, instead of `~/.local/share` |
| `TMPDIR` | the folder for temporary files |
"""
_MINING_SETTINGS = """# Settings of `lensctl mine`

`lensctl mine --config mine.toml` reads them from a TOML file; flags win over it. Settings without
a table stand at the top of the file. A name that is not listed here is an error, and so is a value
of another type. The defaults are TOML; [mining](../mining.md) says what the stages do.
"""


def _settings() -> str:
    text = inspect.getdoc(Settings) or ""
    default = Settings()
    rows = []
    for key, told in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)$", text, re.MULTILINE):
        meaning = " ".join(told.split())
        value = f"`{_toml(getattr(default, key))}`"
        if key == "library":
            value = "`library` in the platform's data folder"
        rows.append(f"| `{key}` | {value} | {meaning} |")
    return _SETTINGS + "\n".join(rows) + "\n" + _variables()


def _variables() -> str:
    """Environment variables that are no settings."""
    keys = " or ".join(f"`{name}`" for name in KEY_VARIABLES)
    return _VARIABLES.format(models=MODELS_VARIABLE, keys=keys)


def _mining_settings() -> str:
    tables: dict[str, Any] = {"": MineConfig()}
    for each in dataclasses.fields(MineConfig):
        value = getattr(tables[""], each.name)
        if dataclasses.is_dataclass(value):
            tables[each.name] = value
    return _MINING_SETTINGS + "".join(_mining_table(*one) for one in tables.items())


def _mining_table(name: str, settings: Any) -> str:
    kind = type(settings)
    told = _told_meanings(kind)
    heading = f"`[{name}]`" if name else "Without a table"
    lines = ["", f"## {heading}", "", inspect.getdoc(kind) or "", ""]
    lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for each in dataclasses.fields(kind):
        value = getattr(settings, each.name)
        if dataclasses.is_dataclass(value):
            continue
        place = f"{name}.{each.name}".lstrip(".")
        meaning = told.get(each.name) or MINING_MEANINGS.get(place, "")
        lines.append(f"| `{each.name}` | {_type_name(value)} | `{_toml(value)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _told_meanings(kind: type) -> dict[str, str]:
    """What the string under a field of a dataclass says of it."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    told = {}
    for one, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                told[one.target.id] = " ".join(text.value.split())
    return told


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), "array of strings")


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _schema() -> str:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    Recorder(connection).migrate()
    rows = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE sql NOT NULL AND substr(name, 1, 7) != '_sqlite'"
    )
    statements = ";\n\n".join(row[0] for row in rows)
    return f"# The catalog's schema\n\n```sql\n{statements};\n```\n"


def main() -> None:
    """Write the pages and the table, or check them."""
    FOLDER.mkdir(exist_ok=True)
    files = {FOLDER / name: _MADE + text for name, text in pages().items()}
    files[TABLE] = completion_table()
    stale = []
    for path, text in files.items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what the code says: {', '.join(stale)}; run: python docs/generate.py")


if __name__ == "__main__":
    main()
