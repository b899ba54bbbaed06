"""kill -9 in the middle of indexing, small: the benchmark with few photos and few kills."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_index.py"


def test_kill_9_loses_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, "--photos", "60", "--kills", "4", "--queries", "4"],
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert b"4 kills" in done.stdout
