"""Write docs/reference/ from the code: commands, exit codes, settings, the library's schema.

The table from which shells complete (lensctl/cli/completion.json) is written with it.

python docs/generate.py          writes the pages
python docs/generate.py --check  exits 1 where a page is not what the code says
"""

import inspect
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from completion_table import completion_table

from lensctl import errors
from lensctl.cli.commands import app
from lensctl.cli.completion import TABLE
from lensctl.config import Settings
from lensctl.library.recorder import Recorder

FOLDER = Path(__file__).parent / "reference"
_MADE = "<!-- Made by docs/generate.py from the code; do not edit. -->\n\n"


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    return {
        "commands.md": _commands(),
        "exit-codes.md": _exit_codes(),
        "settings.md": _settings(),
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
    context = command.make_context(name, [], resilient_parsing=True)
    context.terminal_width = context.max_content_width = 96
    text = re.sub(r"[ \t]+\n", "\n", command.get_help(context))
    return f"## {name}\n\n```text\n{text.strip()}\n```\n"


def _exit_codes() -> str:
    tree = inspect.cleandoc(errors.__doc__ or "")
    return f"# Exit codes\n\n```text\n{tree}\n```\n\n0 is success.\n"


def _settings() -> str:
    text = inspect.getdoc(Settings) or ""
    rows = re.findall(r"^    (\w+): (.+)$", text, re.MULTILINE)
    default = Settings()
    lines = ["# Settings", "", "Flags win over environment variables, those over the config file."]
    lines += ["", "| key | default | meaning |", "|---|---|---|"]
    for key, meaning in rows:
        value = "the platform's data folder" if key == "library" else repr(getattr(default, key))
        lines.append(f"| `{key}` | {value} | {meaning} |")
    return "\n".join(lines) + "\n"


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
