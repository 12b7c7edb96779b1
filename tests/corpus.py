"""Optional corpora next to the repository: operator cases of other projects, and real models with reference figures.

Nothing here needs the engine. A corpus that is absent gives no cases; conftest.py turns that into skips with a reason.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

NATIVE = (
    "silero-vad",
    "silero-vad-8k",
    "silero-vad-sequence",
    "noaa-streamflow",
    "charrnn",
    "rnnoise",
    "plc-nsnet2",
    "pose-gru",
    "rul-aircraft",
    "dgaintel",
    "dtln-1",
    "dtln-2",
    "g2p-decoder",
    "gtcrn",
    "gtcrn-raw",
    "nakdimon",
    "silero-vad-op18",
    "thai-segmenter",
)
"""Real models that run without a fallback."""


def shared_folder() -> Path:
    """Where the corpora are, if they are: GATEINFER_SHARED, or `shared` next to the repository."""
    given = os.environ.get("GATEINFER_SHARED")
    return Path(given) if given else Path(__file__).resolve().parents[2] / "shared"


@dataclass(frozen=True, eq=False)
class PeerCase:
    """One operator test of another project."""

    path: Path
    info: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.info['group']}-{self.info['id']}"

    @property
    def model(self) -> Path:
        return self.path.with_name(self.info["model"])

    @property
    def expects_error(self) -> bool:
        return bool(self.info["expect"] == "error")

    @property
    def stream(self) -> Mapping[str, Any] | None:
        """state: pairs of input and output; chunks: lengths to cut in; axis, out_axis: where time is, by name."""
        return self.info.get("stream")

    @cached_property
    def feeds(self) -> Arrays:
        return self._arrays("in:")

    @cached_property
    def expected(self) -> Arrays:
        return self._arrays("out:")

    @cached_property
    def alternatives(self) -> Arrays:
        """Figures that are as acceptable as `expected`."""
        return self._arrays("alt:")

    def check(self, got: Mapping[str, np.ndarray]) -> None:
        """Fail unless every expected output is met, by its figures or by the alternative ones."""
        for name, figures in self.expected.items():
            if name in self.alternatives and self._close(got[name], self.alternatives[name]):
                continue
            np.testing.assert_allclose(
                got[name], figures, rtol=self.info["rtol"], atol=self.info["atol"], err_msg=f"{self}: output {name}"
            )

    def _close(self, got: np.ndarray, figures: np.ndarray) -> bool:
        close = np.allclose(got, figures, rtol=self.info["rtol"], atol=self.info["atol"], equal_nan=True)
        return got.shape == figures.shape and close

    def _arrays(self, prefix: str) -> Arrays:
        with np.load(self.path.with_suffix(".npz")) as npz:
            return {key.removeprefix(prefix): npz[key] for key in npz.files if key.startswith(prefix)}


def peer_cases() -> list[PeerCase]:
    """All cases, sorted by path; empty when the corpus is absent."""
    paths = sorted(shared_folder().glob("peer_cases/*/*.json"))
    return [PeerCase(path, json.loads(path.read_text())) for path in paths]


@dataclass(frozen=True, eq=False)
class ZooCase:
    """One real model with real input and reference figures.

    kind "stream": `frames` calls of one model whose state is handed back; kind "run": independent calls.
    """

    folder: Path
    info: Mapping[str, Any]

    def __str__(self) -> str:
        return self.folder.name

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def is_stream(self) -> bool:
        return bool(self.info["kind"] == "stream")

    @property
    def states(self) -> dict[str, str]:
        """State input -> state output."""
        return dict(self.info.get("states", {}))

    @property
    def constants(self) -> dict[str, int]:
        """Inputs that are the same in every call."""
        return dict(self.info.get("constants", {}))

    @cached_property
    def initial(self) -> Arrays:
        return self._group("init/")

    @cached_property
    def final(self) -> Arrays:
        return self._group("final/")

    def __len__(self) -> int:
        return int(self.info["frames"] if self.is_stream else self.info["calls"])

    def calls(self) -> Iterator[tuple[Arrays, Arrays]]:
        """(feeds without states and constants, expected outputs) of every call in order."""
        for index in range(len(self)):
            yield self._call("in/", self.info["inputs"], index), self._call("out/", self.info["outputs"], index)

    def constant_feeds(self) -> Arrays:
        return {name: np.asarray(value, np.int64) for name, value in self.constants.items()}

    @cached_property
    def _arrays(self) -> Arrays:
        with np.load(self.folder / "ref.npz") as npz:
            return dict(npz)

    def _call(self, prefix: str, names: list[str], index: int) -> Arrays:
        if self.is_stream:
            return {name: self._arrays[prefix + name][index] for name in names}
        return {name: self._arrays[f"{prefix}{name}/{index}"] for name in names}

    def _group(self, prefix: str) -> Arrays:
        return {key.removeprefix(prefix): array for key, array in self._arrays.items() if key.startswith(prefix)}


def zoo_case(name: str) -> ZooCase | None:
    """The case called `name`, or None when it is absent."""
    folder = shared_folder() / "zoo" / name
    path = folder / "case.json"
    return ZooCase(folder, json.loads(path.read_text())) if path.is_file() else None
