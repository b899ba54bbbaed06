"""Two workers at work on six long parts; run by a test that interrupts it. Argument: a folder."""

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lensctl_training.mining.workspace import Part


def work_long(flags: str, part: "Part") -> None:
    """Say so, then stay busy for longer than the test waits."""
    Path(flags, f"part-{part.name}").touch()
    time.sleep(60)


def main(flags: str) -> None:
    # Imported here: a worker that says it is starting has its imports before it.
    from lensctl_training.mining.engine import Processes
    from lensctl_training.mining.workspace import Part

    try:
        parts = [Part(str(number), (), "") for number in range(6)]
        list(Processes(2).run(partial(work_long, flags), parts))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1])
elif __name__ == "__mp_main__":
    Path(sys.argv[1], f"starting-{os.getpid()}").touch()
