"""A Hub that does not answer: what the built-in catalogue answers in its place, and says so."""

import json
import re
import shlex
from pathlib import Path

import pytest

import weighbridge
from tests.hub import Fault
from tests.sparse import write_repo
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import GatedError, HubError, NotFoundError
from weighbridge.faces.cli.menu import run
from weighbridge.models.sources.answers import Silence

LISTED, NAME = "Qwen/Qwen3-8B", "qwen3-8b"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
LAUNCH = f"vllm serve {LISTED} --max-model-len 32k"


@pytest.fixture
def away(client_home, monkeypatch):
    """Nobody listens at port 9."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:9")


def said(report):
    return [line for line in report.warnings if "built-in catalogue" in line]


@pytest.mark.slow
@pytest.mark.parametrize("reference", [LISTED, LISTED.lower(), f"hf://{LISTED}", f"{LISTED}@main"])
def test_a_full_id_is_answered_from_the_catalogue(away, reference):
    found, known = weighbridge.load(reference), weighbridge.load(NAME)
    assert (found.devices, found.table) == (known.devices, known.table)
    assert found.model.read_from == known.model.read_from
    (line,) = said(found)
    assert f"{reference}: answered from the built-in catalogue's {NAME}" in line
    assert "localhost:9 cannot be reached" in line
    assert said(known) == []


@pytest.mark.slow
def test_a_dead_proxy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    monkeypatch.setattr("weighbridge.models.sources.http.TRIES", 1)
    with pytest.raises(HubError, match=r"reached through the proxy 127\.0\.0\.1:9 \(") as e:
        weighbridge.load("org/name")
    assert "secret" not in str(e.value)


@pytest.mark.slow
def test_every_question_is(away):
    asked = {
        "load": {},
        "infer": {"context": 4096, "engine": "vllm"},
        "train": {"seq_len": 64, "checkpointing": "full"},
    }
    for task, workload in asked.items():
        own = getattr(weighbridge, task)
        found = own(LISTED, **workload)
        assert found.peak == own(NAME, **workload).peak
        assert len(said(found)) == 1
        line = Requests().answer(json.dumps({"task": task, "model": LISTED, "workload": workload}))
        assert line["devices"] == found.to_dict()["devices"]
    launched = weighbridge.infer(command=LAUNCH, gpu="a100-80gb")
    assert launched.workload["context"] == 32_000
    assert len(said(launched)) == 1


def test_a_line_of_the_docs_works_without_a_network(away, capsys):
    lines = re.findall(r"^weighbridge (infer --command .+)$", REFERENCE.read_text("utf-8"), re.M)
    assert lines
    for line in lines:
        assert run([*shlex.split(line), "--check"]) == 0
        assert "not from the Hub" in capsys.readouterr().err


def test_offline_is(hub):
    (line,) = said(weighbridge.load(LISTED, offline=True))
    assert "--offline is set" in line
    assert hub.requests == []


def test_a_hub_in_trouble_is_away_and_one_that_answers_is_not(hub):
    hub.faults.append(Fault("/api/models/", status=503))
    assert len(said(weighbridge.load(LISTED))) == 1
    hub.faults.clear()
    with pytest.raises(NotFoundError):
        weighbridge.load(LISTED)
    config = {"model_type": "llama"}
    write_repo(hub.root / LISTED, config, {"a": ("F32", (4, 4))})
    hub.gated[LISTED] = ()
    with pytest.raises(GatedError):
        weighbridge.load(LISTED)


@pytest.mark.parametrize(
    "reference",
    [f"{LISTED}@v1", f"{LISTED}:Q4_K_M", f"{LISTED}/model.safetensors", "org/not-in-the-catalogue"],
)
def test_what_the_catalogue_does_not_have_is_still_an_error(away, reference):
    with pytest.raises(HubError, match=r"localhost:9 cannot be reached"):
        weighbridge.load(reference)


def test_the_cache_comes_before_the_catalogue(hub, tmp_path):
    from weighbridge.models.sources import cache

    folder = cache.repository(tmp_path, LISTED)
    commit = "0" * 40
    snapshot = folder / "snapshots" / commit
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2}
    write_repo(snapshot, config, {"model.norm.weight": ("F32", (4096,))})
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    found = weighbridge.load(LISTED, offline=True, cache_dir=str(tmp_path))
    assert found.model.architecture == "LlamaForCausalLM"
    assert said(found) == []


def test_an_endpoint_that_is_no_address_is_named(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://[::1")
    with pytest.raises(weighbridge.base.errors.UsageError, match=r"HF_ENDPOINT is .*no address"):
        weighbridge.load("org/name")


def test_who_asks_for_many_waits_for_a_host_once(away, monkeypatch):
    """The tries of one name cost 0.75 s of waiting, which every further name paid again."""
    waits = []
    monkeypatch.setattr("weighbridge.models.sources.http.time.sleep", waits.append)
    requests = Requests()
    told = [requests.answer(json.dumps({"task": "load", "model": f"org/{i}"})) for i in range(5)]
    assert {*waits} == {0.01, 0.02} and len(waits) <= 2 * 2  # of one name, two files at once
    assert all("localhost:9 cannot be reached" in each["error"]["message"] for each in told)
    assert {each["error"]["code"] for each in told} == {3}


def test_a_host_is_asked_again_after_a_while(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("weighbridge.models.sources.answers.time.monotonic", lambda: now[0])
    silence = Silence()
    assert silence.of("hub") == ""
    silence.begin("hub", "cannot be reached")
    assert (silence.of("hub"), silence.of("mirror")) == ("cannot be reached", "")
    now[0] += Silence.SECONDS
    assert silence.of("hub") == ""
