"""Small files are kept in the Hub's own cache; the oracle is the client, which fills another one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import weighbridge
from tests.hub import Fault
from tests.sparse import as_tensors, write_repo
from tests.tiny import config
from weighbridge.base.errors import BadFileError, HubError
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.sources import cache
from weighbridge.models.sources.base import SourceOptions
from weighbridge.models.sources.hub import HubSource
from weighbridge.models.sources.reference import HubRef

TINY = config("first", vocab_size=100, intermediate_size=96)
PLAN = blueprint(Config(TINY))
NAMES = ("config.json", "model.safetensors.index.json")


@pytest.fixture
def repo(hub):
    return write_repo(hub.root / "org/name", TINY, as_tensors(PLAN), shards=2)


@pytest.fixture
def home(client_home):
    return client_home / "hub"


def tree(folder):
    """Each file with its bytes, each link with where it leads; the client's locks and tag aside."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and not name.startswith((".locks", "CACHEDIR.TAG")):
            found[name] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("revision", [None, "main", "v1", "refs/pr/1", "commit"])
def test_it_is_what_the_client_would_have_kept(hub, repo, home, tmp_path, revision, monkeypatch):
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    revision = hub.commit("org/name") if revision == "commit" else revision
    weighbridge.load("org/name", revision=revision)
    disable_progress_bars()
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    copied = "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE"  # by version 0
    monkeypatch.setattr(copied, template, raising=False)
    theirs = {"endpoint": hub.endpoint, "cache_dir": tmp_path / "theirs"}
    for name in NAMES:
        hf_hub_download("org/name", name, revision=revision, **theirs)
    assert tree(home) == tree(tmp_path / "theirs")
    assert len(tree(home)) == 2 * len(NAMES) + (revision != hub.commit("org/name"))


def test_a_second_answer_fetches_no_body_of_theirs_and_is_the_same(hub, repo):
    first = weighbridge.load("org/name")
    hub.requests.clear()
    assert weighbridge.load("org/name").to_dict() == first.to_dict()
    assert hub.asked("blobs=true")
    assert hub.asked("safetensors$")
    assert not hub.asked("json$")


def test_offline_finds_them(hub, repo):
    weighbridge.load("org/name")
    hub.requests.clear()
    found = weighbridge.load("org/name", offline=True)
    assert found.model.parameters == PLAN.parameters
    assert any("names 2 shards and none is here" in line for line in found.warnings)
    assert not hub.requests


@pytest.mark.slow
def test_a_download_that_offline_relies_on_stays_the_one_that_is_referred_to(hub, repo, home):
    folder = cache.repository(home, "org/name")
    old = folder / "snapshots" / ("0" * 40)
    write_repo(old, {**TINY, "num_hidden_layers": 1}, {"a": ("F32", (1,))})
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(old.name)
    weighbridge.load("org/name")
    assert (folder / "refs/main").read_text() == old.name
    assert (folder / "snapshots" / hub.commit("org/name") / "config.json").is_file()
    (old / "model.safetensors").unlink()
    (repo / "config.json").write_text(json.dumps(TINY))  # a new commit
    weighbridge.load("org/name")
    assert (folder / "refs/main").read_text() == hub.commit("org/name"), "it held no more than ours"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [("tokenizer.model", "x" * 100), ("big.json", "1" * (17 << 20)), ("empty.json", "")],
)
def test_no_other_file_is(hub, repo, home, name, text):
    (repo / name).write_text(text)
    source = HubSource(HubRef(repo_id="org/name"), SourceOptions())
    assert source.read(name, 0, 1 << 26) == text.encode()
    assert tree(home) == {}


def test_nor_a_part_of_one_nor_one_that_was_cut(hub, repo, home, monkeypatch):
    source = HubSource(HubRef(repo_id="org/name"), SourceOptions())
    assert len(source.read(NAMES[1], 5, 100)) == 95
    hub.faults = [Fault("config", body=b"{}", status=200)]
    with pytest.raises(HubError, match=r"config\.json came with 2 bytes of \d+ that are listed"):
        source.read("config.json", 0, 1 << 20)
    assert tree(home) == {}


@pytest.mark.slow
def test_a_file_that_is_damaged_in_the_cache_is_named_and_fetched_again(hub, repo, home):
    weighbridge.load("org/name")
    (place,) = (path for path in home.rglob("config.json"))
    whole = place.read_bytes()
    blob = place.resolve()
    for wrong in (whole.replace(b"64", b"65", 1), whole[:-5], b"", b"{"):
        blob.write_bytes(wrong)
        with pytest.raises(
            BadFileError, match=r"config\.json: this file of the Hub's cache is dam"
        ):
            weighbridge.load("org/name", offline=True)
        assert weighbridge.load("org/name").model.parameters == PLAN.parameters
        assert place.read_bytes() == whole
    assert weighbridge.load("org/name", offline=True).model.parameters == PLAN.parameters


def test_nor_what_a_mirror_of_a_pasted_url_says(hub, repo, home):
    source = HubSource(HubRef(repo_id="org/name", endpoint=hub.endpoint), SourceOptions())
    assert source.read("config.json", 0, 1 << 20)
    assert tree(home) == {}


def test_nor_under_what_is_no_etag(hub, repo, home):
    listing = {"id": "org/name", "sha": hub.commit("org/name"), "siblings": []}
    size = (repo / "config.json").stat().st_size
    for odd in ("../../../x", 7, None, "a" * 39):
        listing["siblings"] = [{"rfilename": "config.json", "size": size, "blobId": odd}]
        hub.faults = [Fault("/api/", body=json.dumps(listing).encode())]
        source = HubSource(HubRef(repo_id="org/name"), SourceOptions())
        assert source.read("config.json", 0, 1 << 20)
    assert tree(home) == {}


def test_a_cache_that_cannot_be_written_changes_nothing(hub, repo, home):
    expected = weighbridge.load("org/name", cache_dir=str(home.parent / "other")).to_dict()
    home.write_text("no folder")
    assert weighbridge.load("org/name").to_dict() == expected


def test_where_there_are_no_links(hub, repo, home, monkeypatch):
    monkeypatch.setattr(os, "symlink", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    weighbridge.load("org/name")
    held = cache.repository(home, "org/name") / "snapshots" / hub.commit("org/name")
    assert (held / "config.json").read_bytes() == (repo / "config.json").read_bytes()
    assert not (held / "config.json").is_symlink()
    assert weighbridge.load("org/name", offline=True).model.parameters == PLAN.parameters


RACE = """
import sys
from weighbridge.models.sources import cache
from pathlib import Path
for turn in range(60):
    name, data = f"{turn:040x}", bytes([turn]) * 200_000
    cache.keep(Path(sys.argv[1]), cache.Revision("main", "a" * 40), f"{turn}.json", name, data)
    held = Path(sys.argv[1]) / "snapshots" / ("a" * 40) / f"{turn}.json"
    assert held.read_bytes() == data
"""


@pytest.mark.slow
def test_several_processes_keep_the_same_at_once(tmp_path):
    argv = [sys.executable, "-c", RACE, str(tmp_path)]
    running = [subprocess.Popen(argv) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    found = tree(tmp_path)
    assert len(found) == 2 * 60 + 1
    assert not [name for name in found if "incomplete" in name]
    assert found["refs/main"] == b"a" * 40


def test_the_hub_is_asked_before_the_next_module_is_imported(hub, repo, monkeypatch):
    """The import, which here waits for the request, is what the wait is used for."""
    from weighbridge.models.checkpoint import gather

    told = []

    def import_once_asked(name):
        for _ in range(6000):  # a minute
            if hub.requests:
                break
            time.sleep(0.01)
        told.append((name, len(hub.requests)))

    monkeypatch.setattr(gather, "import_module", import_once_asked)
    weighbridge.load("org/name")
    assert told == [("weighbridge.answers.estimate.load", 1)]
    weighbridge.load(str(repo))
    weighbridge.load("llama-3.1-8b")
    assert len(told) == 1, "nothing is waited for there"


@pytest.mark.slow
def test_a_link_that_leads_to_nothing_is_made_again(hub, repo, home):
    weighbridge.load("org/name")
    before = tree(home)
    for blob in home.glob("models--org--name/blobs/*"):
        blob.unlink()
    weighbridge.load("org/name")
    assert tree(home) == before
    for link in home.glob("models--org--name/snapshots/*/*"):
        os.unlink(link)
        os.symlink("../../blobs/nothing", link)
    weighbridge.load("org/name")
    assert tree(home) == before
