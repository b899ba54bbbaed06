"""What the hardware may have, told without torch: importing it to hear "no" takes seconds."""

import platform
import sys
from functools import cache
from pathlib import Path

_DEVICES = ("nvidia*", "kfd", "dxg")
"""In /dev: NVIDIA, AMD, and either of them under Windows Subsystem for Linux."""


def may_have_accelerator() -> bool:
    """False only where there is surely none: on Linux without a device file of one."""
    if not sys.platform.startswith("linux"):
        return platform.machine() == "arm64" or sys.platform == "win32"
    return any(path for pattern in _DEVICES for path in Path("/dev").glob(pattern))


def multiplies_integers() -> bool:
    """Whether products of 8-bit integers are summed exactly here.

    x86 before VNNI sums pairs of them in 16 bits, which overflow: a tower in integers would quietly
    give other embeddings there than where it was converted. Where an x86 CPU cannot be asked (not
    on Linux), the answer is no.
    """
    if platform.machine() not in ("x86_64", "AMD64", "i686"):
        return True
    return not cpu_flags().isdisjoint({"avx512_vnni", "avx_vnni"})


@cache
def cpu_flags() -> frozenset[str]:
    """Instructions of this CPU by Linux's names; none are known elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").split())
