"""Tables of which a row is read when it is asked for: what they hold is what the files hold."""

import json
import os
import shutil

import pytest

from weighbridge.answers.bounds import fitted, margin
from weighbridge.base import lazily
from weighbridge.base.parsed import Parsed
from weighbridge.faces.cli.options import WIDTH, columns
from weighbridge.models import catalogue
from weighbridge.models.arch import config


def test_a_row_is_read_once_and_when_it_is_asked_for():
    asked = []
    table = Parsed({"a": "1", "b": "2"}, lambda line: asked.append(line) or int(line))
    assert (list(table), len(table), "b" in table, asked) == (["a", "b"], 2, True, [])
    assert (table["b"], table["b"], table.get("c"), asked) == (2, 2, None, ["2"])
    assert dict(table) == {"a": 1, "b": 2}


def lines(module, name):
    with open(os.path.join(os.path.dirname(module.__file__), name), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_models_are_found_by_the_first_value_of_their_lines():
    told = lines(catalogue, "models.jsonl")
    assert catalogue.names() == [one["name"] for one in told]
    assert all(catalogue.find(one["name"]) == catalogue.CatalogueEntry(**one) for one in told)


def test_class_defaults_are_found_by_their_lines():
    path = os.path.join(os.path.dirname(config.__file__), "defaults.json")
    with open(path, encoding="utf-8") as file:
        assert dict(config._defaults()) == json.load(file)


def test_margins_are_found_by_their_kinds():
    told = lines(margin, "margins.jsonl")
    names = margin.RunGroup._fields
    assert [kind._asdict() for kind in fitted()] == [{n: t[n] for n in names} for t in told]
    for found, one in zip(fitted().values(), told, strict=True):
        assert (found.low, found.high, found.runs) == (one["low"], one["high"], one["runs"])
        assert (found.middle, list(found.sources)) == (one["middle"], one["sources"])


def test_a_name_that_a_package_has_not_is_no_name():
    find = lazily.named("weighbridge.machines.allocator", {"Allocator": "core"})
    assert find("Allocator").__name__ == "Allocator"
    with pytest.raises(
        AttributeError, match=r"'weighbridge\.machines\.allocator' has no attribute 'Other'"
    ):
        find("Other")


@pytest.mark.parametrize("named", ["", "0", "100", "-5", "wide", "²"])
def test_columns_are_those_that_shutil_finds(monkeypatch, named):
    monkeypatch.setenv("COLUMNS", named)
    assert columns() == shutil.get_terminal_size((WIDTH, 24)).columns
