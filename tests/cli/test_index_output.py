"""What index runs say on stderr: before they encode, and of what could not be read."""

import io
from contextlib import redirect_stderr

from lensctl.cli.index_output import IndexProgress, print_problems
from lensctl.cli.terminal import GracefulStop
from lensctl.library.index_run import IndexSummary


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_list_says_where_the_rest_is() -> None:
    files = [(b"/p/%d.jpg" % number, "the file is gone") for number in range(22)]
    with redirect_stderr(_Terminal()) as terminal:
        print_problems(IndexSummary(unreadable=files))
    assert terminal.getvalue().endswith("and 2 more; all of them: lensctl status --errors\n")
    with redirect_stderr(_Terminal()) as terminal:
        print_problems(IndexSummary(skipped=files))  # of which status knows nothing
    assert terminal.getvalue().endswith("and 2 more; all of them: lensctl index --json\n")


def test_the_time_to_encode_is_a_bound() -> None:
    """Photos of known content are not encoded, and only reading tells."""
    with redirect_stderr(_Terminal()) as terminal, IndexProgress(GracefulStop()) as progress:
        progress.encoding(1000, 0.12)
    assert "1,000 photos to read; encoding alone takes at most about 2 min 0 s" in (
        terminal.getvalue()
    )
