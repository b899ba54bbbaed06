"""Whether it is worth asking torch for an accelerator: importing it to hear "no" takes seconds."""

import platform
import sys
from pathlib import Path

_DEVICES = ("nvidia*", "kfd", "dxg")
"""In /dev: NVIDIA, AMD, and either of them under Windows Subsystem for Linux."""


def may_have_accelerator() -> bool:
    """False only where there is surely none: on Linux without a device file of one."""
    if not sys.platform.startswith("linux"):
        return platform.machine() == "arm64" or sys.platform == "win32"
    return any(path for pattern in _DEVICES for path in Path("/dev").glob(pattern))
