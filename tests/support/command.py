"""`lensctl` as a process, kept inside a folder."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_in(
    folder: Path,
    *arguments: str | Path,
    program: Sequence[str] = ("-m", "lensctl"),
    **options: object,
) -> subprocess.CompletedProcess[str]:
    """Run to the end, with its output piped."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, *program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment_of(folder)},
        **options,
    )


def environment_of(folder: Path) -> dict[str, str]:
    """Variables that keep a run inside a folder: its library, its caches, its settings."""
    config = folder / "config.toml"
    return {
        "LENSCTL_LIBRARY": str(folder / "library"),
        "LENSCTL_CONFIG": str(config if config.exists() else os.devnull),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
        "HOME": str(folder / "home"),
    }
