"""README claims only what is there: its operators, its commands, its API names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gateinfer as gi
from gateinfer.lower import NATIVE_OPS

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_operator_table_is_complete_and_true():
    table = re.search(r"<!-- ops.*?-->(.*?)<!-- end ops -->", README, re.DOTALL).group(1)
    rows = [row.split("|")[2] for row in table.strip().splitlines()[2:]]
    named = set(re.findall(r"\b[A-Z]\w+", re.sub(r"\(.*?\)", "", " ".join(rows))))
    assert named == NATIVE_OPS - {"LSTM", "GRU", "RNN"}


def test_make_targets_exist():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in re.findall(r"^ +make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python -m gateinfer (\w+)", README))))
def test_commands_have_help(command, capsys):
    from gateinfer.cli import main

    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and len(capsys.readouterr().out) > 200


def test_names_of_the_api_block_exist():
    block = re.search(r"## The API in one page\n```python\n(.*?)```", README, re.DOTALL).group(1)
    known = {"m": gi.Model, "s": gi.Stream, "r": gi.Report, "gi": gi}
    ports = {"x", "y", "states", "inputs", "outputs", "isa", "state", "step"}  # set per instance
    used = set(re.findall(r"\b(m|s|r|gi)\.(\w+)", block))
    assert len(used) > 15
    for owner, name in used:
        assert hasattr(known[owner], name) or name in ports, f"{owner}.{name}"
