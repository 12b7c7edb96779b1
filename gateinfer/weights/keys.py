"""Which arrays of a set belong to which direction of which recurrent layer, told from their keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateinfer.errors import ModelError
from gateinfer.weights.arrays import Weight, listed, near_misses

SEPARATORS: Final = "./_"

Directions = list[dict[str, Weight]]
"""The arrays of one layer by role: forward, then backward if there is one."""


@dataclass(slots=True)
class Match:
    """One key that a layout's pattern recognises."""

    owner: str
    """What comes before: the module or layer the array belongs to."""
    role: str
    weight: Weight
    layer: int = 0
    backward: bool = False


@dataclass(slots=True)
class Found:
    """The arrays of one recurrent module, and the keys that belong to none."""

    layers: list[Directions]
    others: list[str] = field(default_factory=list)


Matcher = Callable[[str, Weight], Match | None]
"""Recognises the part of a key behind the prefix."""


def under_prefix(
    weights: Mapping[str, Weight], prefix: str, matches: Matcher, what: str
) -> tuple[str, dict[str, Weight]]:
    """The arrays whose keys start with `prefix`, by the rest of the key. "lstm" means "lstm." when such keys exist.

    Raises
    ------
    ModelError
        When no recognised key has the prefix.
    """
    endings = ("",) if not prefix or prefix[-1] in SEPARATORS else (*SEPARATORS, "")
    for ending in endings:
        full = prefix + ending
        inside = {key[len(full) :]: weight for key, weight in weights.items() if key.startswith(full)}
        if any(matches(rest, weight) for rest, weight in inside.items()):
            return full, inside
    where = f"with the prefix {prefix!r} " if prefix else ""
    raise ModelError(f"no {what} {where}among the keys {listed(weights)}")


def single_owner(matches: Iterable[Match]) -> list[Match]:
    """The matches, which must all belong to one module."""
    found = list(matches)
    owners = sorted({match.owner for match in found})
    if len(owners) > 1:
        raise ModelError(
            f"these weights belong to {len(owners)} recurrent layers; pass prefix= to choose one of {listed(owners)}, "
            "or put the model together with gateinfer.Sequential"
        )
    return found


def missing(key: str, keys: Iterable[str], used: Iterable[str], why: str) -> ModelError:
    """The error for a key that has to be there; one that is not among the `used` ones may be meant for it."""
    keys, taken = list(keys), set(used)
    hint = near_misses(key, [k for k in keys if k not in taken])
    return ModelError(f'weight "{key}" is missing: {why}{hint}; keys are {listed(keys)}')


def add_role(roles: dict[str, Weight], match: Match) -> None:
    """Enters a match; two arrays cannot have one role."""
    other = roles.get(match.role)
    if other is not None:
        raise ModelError(f'weights "{other.key}" and "{match.weight.key}" are both {match.role} of one layer')
    roles[match.role] = match.weight


# ---- ONNX ------------------------------------------------------------------------------------------------------------

_ONNX = re.compile(r"(?P<owner>|.*[./_])(?P<role>[WRBP])")


def match_onnx(key: str, weight: Weight) -> Match | None:
    """`W`, `R`, `B` and `P`, as the inputs of the ONNX operators are called."""
    match = _ONNX.fullmatch(key)
    return match and Match(match["owner"], match["role"], weight)


def find_onnx(weights: Mapping[str, Weight], prefix: str | None) -> Found:
    """The arrays of one ONNX node; its directions are on the arrays' first axis."""
    full, inside = under_prefix(weights, prefix or "", match_onnx, "ONNX weights W and R")
    matches = {key: match_onnx(key, weight) for key, weight in inside.items()}
    roles: dict[str, Weight] = {}
    for match in single_owner(filter(None, matches.values())):
        add_role(roles, match)
        owner = match.owner
    for role in "WR":
        if role not in roles:
            used = (weight.key for weight in roles.values())
            raise missing(full + owner + role, weights, used, "an ONNX recurrent node has W and R")
    return Found([[roles]], [full + key for key, match in matches.items() if match is None])
