"""The list of models: an order, a use, and figures that were read."""

import json

import pytest

from tests.cases import all_of
from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.faces.cli.menu import run
from weighbridge.models import catalogue
from weighbridge.models.catalogue import listing, popularity, uses

EVERY = catalogue.search("")


def named(sort=None):
    return [entry.name for entry in listing.ordered(EVERY, sort)]


def test_figures_are_of_entries_and_say_where_they_were_read():
    known = [popularity.of(name) for name in catalogue.names()]
    read = [one for one in known if one.downloads or one.released]
    assert read
    assert {one.name for one in read} == {*popularity._rows()}
    for one in read:
        assert (one.downloads is None) == (one.repo_id is None) == (one.seen is None)
        assert one.seen is None or one.seen in popularity.COMMITS
        assert one.released is None or "2017" < one.released < "2026-05-18"
        assert one.downloads is None or one.downloads > 0


def test_what_is_not_known_is_empty():
    assert popularity.of("whisper-tiny") == ("whisper-tiny", None, None, None, None)
    assert popularity.of("qwen3-8b").downloads == 11_147_764
    assert popularity.of("qwen3-8b").released == "2025-04-27"


def test_the_newest_year_is_first_and_in_it_the_most_downloaded():
    keys = [popularity.asked_for(name) for name in named()]
    years = [-year for year, _, _ in keys]
    assert years == sorted(years, reverse=True)
    known = {name: popularity.of(name) for name in named()}
    assert all(-keys[at][0] == one.year for at, one in enumerate(known.values()) if one.year)
    assert popularity.asked_for("qwen3-32b")[0] == -2025  # without a date, as its family
    newest = [-downloads for year, downloads, _ in keys if -year == years[0]]
    assert newest == sorted(newest, reverse=True)
    assert newest[0] > newest[-1]
    assert {*named()} == {*catalogue.names()}


def test_orders():
    downloads = [popularity.of(name).downloads for name in named("popular")]
    known = [count for count in downloads if count]
    assert known == sorted(known, reverse=True)
    assert None not in downloads[: len(known)]
    days = [popularity.of(name).released for name in named("recent")]
    assert days[: sum(map(bool, days))] == sorted(filter(None, days), reverse=True)
    assert named("name") == sorted(catalogue.names())
    sizes = [catalogue.parameters()[name] for name in named("size")]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("llama-3.1-8b", "text"),
        ("t5-base", "text"),
        ("qwen3-vl-8b", "multimodal"),
        ("bert-base-uncased", "encoder"),
        ("resnet50", "images"),
        ("whisper-tiny", "speech"),
        ("bge-m3", "features"),
    ],
)
def test_what_a_model_is_for(name, use):
    assert uses.of(catalogue.find(name)) == use
    assert name in [entry.name for entry in listing.matching("", {"use": use})]
    assert all(uses.of(entry) == use for entry in listing.matching("", {"use": use}))


@pytest.mark.parametrize(
    ("pattern", "chosen", "says"),
    [
        ("", {"use": "cooking"}, "use is one of text, encoder"),
        ("", {"sort": "price"}, "sort is one of popular, recent"),
        ("zzzz", {}, "no model in the catalogue matches"),
        ("whisper", {"use": "images"}, "is for images"),
    ],
)
def test_refusals(pattern, chosen, says):
    with pytest.raises((UsageError, NotFoundError), match=says):
        listing.matching(pattern, chosen)


def test_the_command_line_lists(capsys):
    assert run(["models", "whisper", "--use", "speech", "--sort", "size", "-q"]) == 0
    names = capsys.readouterr().out.split()
    assert names[0] == "whisper-large-v3"
    assert names[-1] == "whisper-tiny"
    assert run(["models", "qwen3-8b", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["models"][0]
    assert (row["downloads"], row["released"]) == (11_147_764, "2025-04-27")


@all_of(
    ("name", "family"),
    [
        ("qwen3-vl-30b-a3b", "qwen3-vl"),
        ("gemma-4-e4b", "gemma-4"),
        ("bloom-7b1", "bloom"),
        ("mixtral-8x7b", "mixtral"),
        ("qwen3-235b-a22b-fp8", "qwen3"),
        ("phi-4", "phi-4"),
        ("llama-3.2-11b-vision", "llama-3.2-vision"),
    ],
)
def test_the_family_of_a_name(name, family):
    assert popularity.family_of(name) == family


def test_a_family_is_as_new_as_its_newest_and_as_downloaded_as_all():
    year, downloads, name = popularity.family("qwen3")
    members = [
        one
        for one in map(popularity.of, catalogue.names())
        if popularity.family_of(one.name) == "qwen3"
    ]
    assert (-year, name) == (2025, "qwen3")
    assert -downloads == sum(one.downloads or 0 for one in members)
    assert popularity.family("nobody") == (0, 0, "nobody")
