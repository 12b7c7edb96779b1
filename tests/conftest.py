"""Fixtures every test file may use. A test that asks for one of CORPORA runs once per case of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from corpus import NATIVE, ZooCase, peer_cases, shared_folder, zoo_case


def _absent(what: str) -> str:
    return f"no {what} in {shared_folder()}: set GATEINFER_SHARED to the folder of the corpora"


def _zoo() -> list[ZooCase]:
    return [case for case in map(zoo_case, NATIVE) if case is not None]


CORPORA: dict[str, Callable[[], list]] = {
    "peer_case": peer_cases,
    "peer_stream": lambda: [case for case in peer_cases() if case.stream],
    "zoo_case": _zoo,
    "stream_case": lambda: [case for case in _zoo() if case.is_stream],
    "call_case": lambda: [case for case in _zoo() if not case.is_stream],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture in CORPORA.keys() & set(metafunc.fixturenames):
        params = [pytest.param(case, id=str(case)) for case in CORPORA[fixture]()]
        absent = pytest.param(None, id="absent", marks=pytest.mark.skip(reason=_absent(fixture)))
        metafunc.parametrize(fixture, params or [absent])


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], ZooCase]:
    """`zoo(name)` gives the ZooCase of that name, or skips the test."""

    def find(name: str) -> ZooCase:
        case = zoo_case(name)
        if case is None:
            pytest.skip(_absent(f"zoo/{name}"))
        return case

    return find
