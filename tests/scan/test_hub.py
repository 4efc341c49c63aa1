"""Models of a Hub by filters: each config is asked for once, within the Hub's own limits, and what
came stays when a scan is ended."""

import json
import sqlite3
from itertools import islice

import pytest

from tests.hub import Fault
from tests.scan import small
from tests.sources.conftest import client_home, hub  # noqa: F401  # fixtures
from weighbridge.base.errors import HubError, UsageError
from weighbridge.faces.scan import registry
from weighbridge.models.sources.budget import RequestBudget

CONFIGS = r"/resolve/.*config\.json"


@pytest.fixture
def listed(hub):  # noqa: F811
    """Thirty models of acme and one of others, seven a page."""
    hub.page = 7
    for number in range(30):
        put(hub, f"acme/m{number:02}", {**small.LLAMA, "num_hidden_layers": number + 1})
    put(hub, "others/one", small.LLAMA)
    return hub


def put(hub, name, config):  # noqa: F811
    folder = hub.root / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))


def found(source, tmp_path):
    return list(registry.models(source, store=tmp_path / "out" / "fetched.sqlite"))


def test_filters_select_and_pages_follow(listed, tmp_path):
    models = found("hub:author=acme", tmp_path)
    assert [m.id for m in models] == [f"acme/m{n:02}" for n in range(30)]
    assert [m.config["num_hidden_layers"] for m in models] == list(range(1, 31))
    assert models[0].downloads == 30
    assert models[0].sha == listed.commit("acme/m00")
    assert len(listed.asked("/api/models")) == 5
    assert all(r.path.startswith("/api/models?") for r in listed.asked("/api/"))
    assert len(found("hub:limit=9", tmp_path)) == 9
    assert len(found("hub:search=one&limit=9", tmp_path)) == 1


def test_what_came_is_not_asked_for_again(listed, tmp_path):
    """Not even where the scan was ended in the middle."""
    models = registry.models("hub:author=acme", store=tmp_path / "kept")
    assert len(list(islice(models, 5))) == 5
    models.close()
    before = len(listed.asked(CONFIGS))
    again = list(registry.models("hub:author=acme", store=tmp_path / "kept"))
    assert len(again) == 30
    assert len(listed.asked(CONFIGS)) == before + 25
    list(registry.models("hub:author=acme", store=tmp_path / "kept"))
    assert len(listed.asked(CONFIGS)) == before + 25
    (listed.root / "acme/m03/config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (_, _, _, new, *_) = list(registry.models("hub:author=acme", store=tmp_path / "kept"))
    assert new.config == {"model_type": "gpt2"}
    assert len(listed.asked(CONFIGS)) == before + 26


def test_secrets_of_a_config_are_not_kept(listed, tmp_path):
    """Not even of one that is no JSON; what is wrong with that is said again."""
    put(listed, "acme/told", {**small.LLAMA, "hub_token": "hunter2-hunter2", "a": 1.0})
    broken = b'{"api_key": "hunter2-hunter2", \xff'
    put(listed, "acme/torn", {})
    (listed.root / "acme/torn/config.json").write_bytes(broken)
    first, again = ({m.id: m for m in found("hub:author=acme", tmp_path)} for _ in range(2))
    assert first == again
    assert first["acme/told"].config == {**small.LLAMA, "a": 1.0}
    assert "not UTF-8" in first["acme/torn"].unread
    for path in (tmp_path / "out").iterdir():
        assert b"hunter2" not in path.read_bytes()
    (raw,) = sqlite3.connect(tmp_path / "out" / "fetched.sqlite").execute(
        "select config from kept where id = 'acme/m00'"
    )
    assert raw[0] == (listed.root / "acme/m00/config.json").read_bytes()  # as it was sent


def test_a_listing_at_hand_is_fetched_by_its_revisions(listed, tmp_path):
    """Public tables of the Hub say of a config what has no sizes: it is asked for."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    said = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    files = [{"rfilename": "config.json"}, {"rfilename": "README.md"}]
    rows = [
        {"id": "acme/m07", "sha": listed.commit("acme/m07"), "downloads": 3, "config": said, "siblings": files, "gated": "False"},
        {"id": "acme/m08", "sha": "0" * 40, "downloads": 2, "config": None, "siblings": files[1:], "gated": "False"},
        {"id": "acme/none", "sha": None, "downloads": 1, "config": None, "siblings": files, "gated": "auto"},
        {"id": "mine/whole", "sha": "a" * 40, "downloads": 1, "config": json.dumps(small.LLAMA), "siblings": files, "gated": "auto"},
    ]  # fmt: skip
    table = tmp_path / "models.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    models = {m.id: m for m in found(table, tmp_path)}
    assert models.keys() == {row["id"] for row in rows}
    assert models["acme/m07"].config["num_hidden_layers"] == 8
    assert (models["acme/m07"].sha, models["acme/m07"].downloads) == (rows[0]["sha"], 3)
    assert "no config.json" in models["acme/m08"].unread
    assert "is no commit" in models["acme/none"].unread
    assert models["mine/whole"].config == small.LLAMA  # is there already, and not asked for
    assert len(listed.asked("/")) == 1  # no page of the listing either
    with pytest.raises(UsageError, match="offline"):
        list(registry.models(table, offline=True))


def test_all_threads_stay_within_one_budget(listed, tmp_path):
    """Twelve requests a window of two seconds: thirty configs take more than two windows, and at
    most those that were on their way when the first answer came are refused."""
    listed.quota = (12, 2)
    models = found("hub:author=acme", tmp_path)
    assert all(m.config for m in models)
    refused = [r for r in listed.requests if r.status == 429]
    assert len(refused) <= 8
    assert len(listed.asked(CONFIGS)) == 30 + len([r for r in refused if "/resolve/" in r.path])


def test_what_is_wrong_with_one_model_is_said_in_its_place(listed, tmp_path):
    listed.gated["acme/m01"] = ()
    (listed.root / "acme/m02/config.json").rename(listed.root / "acme/m02/model.gguf")
    (listed.root / "acme/m03/config.json").write_text("{")
    listed.faults.append(Fault(match="m04/resolve", status=404))
    listed.faults.append(Fault(match="m05/resolve", status=403))
    listed.faults.append(Fault(match="m06/resolve", status=500))
    models = {m.id[-3:]: m for m in found("hub:author=acme", tmp_path)}
    assert "gated, and nobody is logged in" in models["m01"].unread
    assert models["m02"].unread == models["m04"].unread == "has no config.json"
    assert "JSON" in models["m03"].unread
    assert "is gated or private" in models["m05"].unread
    assert "500" in models["m06"].unread
    assert models["m07"].config
    assert not listed.asked("m01/resolve")
    assert not listed.asked("m02/resolve")
    listed.faults.clear()
    models = {m.id[-3:]: m for m in found("hub:author=acme", tmp_path)}
    assert models["m05"].config
    assert models["m06"].config


def test_a_private_hub_is_asked_with_a_token(listed, tmp_path, monkeypatch):
    listed.private["acme/m00"] = {"hf_good"}
    listed.gated["acme/m01"] = {"hf_good"}
    assert found("hub:author=acme", tmp_path)[0].id == "acme/m01"
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    models = found("hub:author=acme", tmp_path)
    assert models[0].config["num_hidden_layers"] == 1
    assert models[1].config


def test_a_hub_that_is_down_ends_the_scan(listed, tmp_path, monkeypatch):
    from weighbridge.faces.scan import hub as of_hub

    monkeypatch.setattr(of_hub, "MOST_FAILED", 4)
    listed.faults.append(Fault(match="m[12]./resolve", status=503))
    with pytest.raises(HubError, match="run it again: what came is kept"):
        found("hub:author=acme", tmp_path)
    listed.faults.clear()
    before = len(listed.asked("m0./resolve"))
    assert len(found("hub:author=acme", tmp_path)) == 30
    assert len(listed.asked("m0./resolve")) == before == 10


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b'{"models": []}', {}, "its listing is no list"),
        (b"[{}]", {}, "does not answer as a Hub does"),
        (b'[{"id": "../x", "sha": "a", "siblings": []}]', {}, "does not answer as a Hub does"),
        (b'[{"id": "a/b", "sha": "../../etc", "siblings": []}]', {}, "which is no commit"),
        (b"[", {}, "does not answer as a Hub does"),
    ],
)
def test_an_endpoint_that_is_no_hub(listed, tmp_path, body, headers, why):
    listed.faults.append(Fault(match="/api/models", status=200, body=body, headers=headers))
    with pytest.raises(HubError, match=why):
        found("hub:author=acme", tmp_path)


def test_a_listing_that_goes_on_elsewhere_is_not_followed(listed, tmp_path, monkeypatch):
    """A token goes with each request."""
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    sha = "a" * 40
    body = json.dumps([{"id": "a/b", "sha": sha, "siblings": []}]).encode()
    link = {"Link": '<http://localhost:1/api/models?x=1>; rel="next"'}
    listed.faults.append(Fault(match="/api/models", status=200, body=body, headers=link))
    with pytest.raises(HubError, match="goes on elsewhere"):
        found("hub:author=acme", tmp_path)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("hub:", "is the whole Hub"),
        ("hub:limit=0", "one whole number"),
        ("hub:limit=x", "one whole number"),
        ("hub:colour=red", "'colour' selects nothing"),
        ("hub:author=", "'author' selects nothing"),
    ],
)
def test_what_selects_nothing_is_told(source, why, tmp_path):
    with pytest.raises(UsageError, match=why):
        found(source, tmp_path)


class Clock:
    def __init__(self):
        self.now, self.slept = 100.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_a_budget_counts_down_and_waits_for_the_next_window():
    clock = Clock()
    budget = RequestBudget(lambda: clock.now, clock.sleep)
    for _ in range(3):
        budget.take()  # nobody has told of a limit
    budget.told({"RateLimit": '"resolvers";r=2;t=30'}, refused=False)
    budget.told({"RateLimit": '"resolvers";r=3;t=30'}, refused=False)  # was sent before the other
    budget.take()
    budget.take()
    assert clock.slept == []
    budget.take()
    assert clock.slept == [30.0]
    budget.told({"RateLimit": '"resolvers";r=0;t=10'}, refused=False)
    clock.now += 5
    budget.told({"RateLimit": '"resolvers";r=9;t=30'}, refused=False)  # of the next window
    budget.take()
    assert clock.slept == [30.0]
    budget.told({"Retry-After": "7"}, refused=True)
    budget.take()
    assert clock.slept == [30.0, 7.0]
    budget.told({}, refused=True)
    budget.take()
    assert clock.slept == [30.0, 7.0, 60.0]
    budget.told({"RateLimit": '"x";r=0;t=999999'}, refused=False)
    budget.take()
    assert clock.slept[-1] == 600.0
