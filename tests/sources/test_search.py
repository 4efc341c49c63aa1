"""Names without an owner: the Hub's search says whose they are, and errors name what comes near."""

import json

import pytest

import weighbridge
from tests.hub import Fault
from weighbridge.base.errors import NotFoundError
from weighbridge.models import catalogue
from weighbridge.models.sources.base import SourceOptions
from weighbridge.models.sources.search import MOST, NamedRepositories, named

NAME = "Nova-9B"
CONFIG = dict(catalogue.find("qwen3-0.6b").config)


def add(hub, *ids):
    for repo_id in ids:
        folder = hub.root / repo_id
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(CONFIG))


def test_the_repository_of_that_name_is_read_and_it_is_said(hub):
    add(hub, "acme/Nova-9B", "acme/Nova-9B-Base", "zed/my-nova-9b-tune")
    report = weighbridge.load("nova-9b")
    assert (report.model.reference, report.model.name) == ("nova-9b", "acme/Nova-9B")
    assert report.warnings[0].startswith("nova-9b: read as acme/Nova-9B, which the Hub's search")
    (asked,) = hub.asked("search=")
    assert f"search=nova-9b&sort=downloads&direction=-1&limit={MOST}" in asked.path


@pytest.mark.parametrize("tag", ["base_model:zed/Nova-9B", "base_model:quantized:zed/Nova-9B"])
def test_the_owner_of_the_base_comes_before_copies(hub, tag):
    add(hub, "acme/Nova-9B", "zed/Nova-9B")
    hub.tags = {"acme/Nova-9B": [tag, "llama", 7], "zed/Nova-9B": ["base_model:zed/Nova-9B-Base"]}
    assert named(NAME, SourceOptions()).exact == ("zed/Nova-9B", "acme/Nova-9B")


def test_a_base_that_is_not_listed_is_known_by_its_copies(hub):
    add(hub, "acme/Nova-9B")
    hub.tags = {"acme/Nova-9B": ["base_model:finetune:zed/Nova-9B"]}
    assert named(NAME, SourceOptions()).exact == ("zed/Nova-9B", "acme/Nova-9B")


def test_a_mirror_without_tags_comes_last(hub):
    add(hub, "unsloth/Nova-9B", "zed/Nova-9B")
    assert weighbridge.load(NAME).model.name == "zed/Nova-9B"


def test_what_comes_near_is_offered_and_not_taken(hub):
    add(hub, "acme/Nova-9B-Instruct", "me/qwen3-9b-nova")
    with pytest.raises(NotFoundError, match="did you mean acme/Nova-9B-Instruct"):
        weighbridge.load(NAME)


def test_a_format_stays_behind_the_name(hub):
    add(hub, "acme/Nova-9B-GGUF")
    with pytest.raises(NotFoundError, match="acme/Nova-9B-GGUF"):
        weighbridge.load("Nova-9B-GGUF:Q4_K_M")


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 403},
        {"body": b"{"},
        {"body": b'{"a": 1}'},
        {"body": b'[1, {"id": "../x"}, {"id": 3}, {"tags": 4}]'},
    ],
)
def test_no_answer_is_no_repository(hub, fault):
    hub.faults.append(Fault(match="search=", **fault))
    assert named(NAME, SourceOptions()) == NamedRepositories()
    with pytest.raises(NotFoundError, match="no such name in the built-in catalogue"):
        weighbridge.load("qwen3-9b")


def test_nobody_is_asked_offline_or_for_a_name_that_is_known(hub):
    for offline, name in ((True, "qwen3-9b"), (True, NAME)):
        with pytest.raises(NotFoundError):
            weighbridge.load(name, offline=offline)
    weighbridge.load("qwen3-8b")
    assert hub.requests == []
