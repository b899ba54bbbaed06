"""How many threads numpy's matrix products take."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

FEW_ROWS = 64
"""Below this, threads wait for each other longer than they work."""


def suited_to(rows: int) -> AbstractContextManager[Any]:
    """One thread for the products of a few rows, all threads for many.

    OpenBLAS divides even the product of one row among all cores, and where these are busy with
    other work, its threads spin until the last one had its turn: on two cores with a load of 4 a
    sentence took 1,700 ms instead of 70.
    """
    return _controller().limit(limits=1, user_api="blas") if rows < FEW_ROWS else nullcontext()


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
