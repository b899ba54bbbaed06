"""A folder of hostile files, indexed by the command, as a user without the rights of root."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support.hostile_files import BAD, GOOD, hostile_files

_INDEX = """
import os, sys
import defusedxml.ElementTree, filelock, mmap, pi_heif, rawpy, tempfile, tqdm
import lensctl.library.indexer, lensctl.library.migrations, lensctl.photos.xmp
from lensctl.cli.commands import run
from lensctl.models.registry import open_model
open_model("mini").index_side()  # the interpreter itself may be out of that user's reach
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.argv = ["lensctl", "index", sys.argv[1], "--library", sys.argv[2], "--json"]
run()
"""


def test_all_good_photos_are_in_and_every_other_file_is_named():
    with hostile_files() as (folder, expected), tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", _INDEX, folder, Path(place) / "library"],
            capture_output=True,
            env={**os.environ, "LENSCTL_CONFIG": os.devnull, "HOME": place},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        summary = json.loads(done.stdout)
        facts = subprocess.run(
            [
                sys.executable,
                "-m",
                "lensctl",
                "query",
                "noise",
                "--library",
                Path(place) / "library",
                "-k",
                "999",
                "-0",
            ],
            capture_output=True,
            timeout=60,
        )
    named = {Path(one["path"]).name for one in (*summary["unreadable"], *summary["skipped"])}
    wanted_bad = {name for name, outcome in expected.items() if outcome == BAD}
    assert wanted_bad <= named
    assert all(one["reason"] for one in (*summary["unreadable"], *summary["skipped"]))
    good = [name for name, outcome in expected.items() if outcome == GOOD]
    assert summary["encoded"] >= len(good)
    assert summary["encoded"] + len(summary["unreadable"]) == summary["found"]
    assert facts.stdout.count(b"\0") > 10
