"""Properties that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")


class once(cached_property[T]):
    """`functools.cached_property` without the lock that it has in Python 3.11.

    That lock is one for all objects: a slow model would hold up every other, and a fork amid it the child for good. Two
    threads may compute the value twice.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        super().__init__(compute)
        self.lock = nullcontext()
