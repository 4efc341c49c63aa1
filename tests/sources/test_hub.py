"""The Hub, as a stand-in that talks HTTP: what is asked for, and every way in which it fails.

The oracle for the cache is the real client, which fills it.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.cases import all_of
from tests.hub import Fault
from tests.sparse import beginning, write_repo, write_safetensors
from weighbridge.base.errors import (
    BadFileError,
    GatedError,
    HubError,
    NotFoundError,
    UsageError,
    WeighbridgeError,
)
from weighbridge.models.formats import ByteRange
from weighbridge.models.sources import http, wire
from weighbridge.models.sources import hub as hub_module
from weighbridge.models.sources.base import SourceFile, SourceOptions, read_plans
from weighbridge.models.sources.hub import HubSource
from weighbridge.models.sources.reference import HubRef

CONFIG = {"model_type": "llama"}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WEIGHTS = {"a": ("F32", (512, 512)), "b": ("F32", (512, 512))}  # 1 MiB a shard, data included


@pytest.fixture(autouse=True, params=["the standard library", "huggingface_hub's client"])
def way(request, monkeypatch):
    """Which of the two asks; a process of its own chooses by what is set up in it."""
    monkeypatch.setattr(wire, "suits", lambda url: request.param == "the standard library")


@pytest.fixture
def repo(hub):
    """org/name: a config, two shards and their index."""
    return write_repo(hub.root / "org/name", CONFIG, WEIGHTS, shards=2)


def source(repo_id="org/name", *, token=None, offline=False, **where):
    return HubSource(HubRef(repo_id=repo_id, **where), SourceOptions(token=token, offline=offline))


def fails(error, words, **more):
    """The one line of the error that listing and reading a config ends in."""
    with pytest.raises(WeighbridgeError) as caught:
        read_config(source(**more))
    message = str(caught.value)
    assert type(caught.value).code == error.code
    assert isinstance(caught.value, error)
    assert "\n" not in message
    for word in words if isinstance(words, tuple) else (words,):
        assert word in message
    return message


def read_config(opened):
    opened.list()
    opened.read("config.json", 0, 1 << 20)


# What is asked for.


def test_one_request_lists_a_repository_with_sizes(hub, repo):
    opened = source()
    assert [e.path for e in opened.list()] == [
        "config.json",
        *SHARDS,
        "model.safetensors.index.json",
    ]
    assert {e.path: e.size for e in opened.list()}[SHARDS[0]] == (repo / SHARDS[0]).stat().st_size
    assert opened.revision == hub.commit("org/name")
    assert (opened.name, opened.notes) == ("org/name", ())
    assert [r.path for r in hub.requests] == ["/api/models/org/name?blobs=true"]


@pytest.mark.slow
def test_reads_are_ranges_and_cost_what_they_read(hub, repo):
    opened = source()
    first = opened.read(SHARDS[0], 0, 1000)
    assert first == (repo / SHARDS[0]).read_bytes()[:1000]
    assert opened.read(SHARDS[0], -10, 0) == bytes(10)
    assert opened.read(SHARDS[0], 500, 1500) == (repo / SHARDS[0]).read_bytes()[500:1500]
    assert opened.read(SHARDS[0], 10**9, 10**9 + 5) == b""
    assert [r.sent for r in hub.asked("/cdn/")] == [1000, 10, 1000]
    assert hub.asked("/cdn/")[1].range.startswith("bytes=10"), "the size is known, so no suffix"


def test_a_small_file_is_fetched_whole(hub, repo):
    assert json.loads(source().read("config.json", 0, 1 << 24)) == CONFIG
    (asked,) = hub.asked("/resolve/.*config.json")
    assert asked.range is None


def test_empty_files_cost_no_request(hub, repo):
    (repo / "empty.json").write_bytes(b"")
    assert source().read("empty.json", 0, 100) == b""
    assert not hub.asked("/resolve/")


def test_names_that_need_quoting(hub, repo):
    (repo / "sub dir").mkdir()
    (repo / "sub dir/a+b#é%41.json").write_bytes(b"found")
    assert source().read("sub dir/a+b#é%41.json", 0, 9) == b"found"


def test_selections(hub, repo):
    write_repo(repo / "unet", CONFIG, WEIGHTS)
    (repo / "m-Q4_K_M.gguf").write_bytes(b"GGUF")
    below = source(subfolder="unet")
    assert [e.path for e in below.list()] == ["config.json", "model.safetensors"]
    assert json.loads(below.read("config.json", 0, 1 << 20)) == CONFIG
    assert source(filename="unet/config.json").list()[0].path == "unet/config.json"
    assert source(quant="q4_k_m").list() == (SourceFile("m-Q4_K_M.gguf", 4),)
    with pytest.raises(NotFoundError, match=r"has no GGUF file of 'Q8_0'; it has m-Q4_K_M\.gguf"):
        source(quant="Q8_0").list()
    with pytest.raises(NotFoundError, match="has no folder 'vae'; it has unet"):
        source(subfolder="vae").list()


@pytest.mark.parametrize("revision", ["main", "v1", "refs/pr/1"])
def test_revisions(hub, repo, revision):
    opened = source(revision=revision)
    assert opened.revision == hub.commit("org/name")
    assert json.loads(opened.read("config.json", 0, 1 << 20)) == CONFIG
    assert hub.requests[1].path == f"/org/name/resolve/{hub.commit('org/name')}/config.json"


@pytest.mark.slow
def test_a_model_of_163_shards(hub):
    names = [f"model-{i:05}-of-00163.safetensors" for i in range(1, 164)]
    tensors = {f"layers.{i}.{k}": ("BF16", (4096, 4096)) for i in range(163) for k in range(40)}
    weight_map = {name: names[int(name.split(".")[1])] for name in tensors}
    write_repo(hub.root / "org/large", CONFIG, tensors, weight_map=weight_map)
    hub.latency, hub.cdn, hub.static = 0.05, False, True
    opened = source("org/large")
    shards = [entry for entry in opened.list() if entry.path in set(names)]
    headers = read_plans(lambda entry: two_reads(entry.size), opened, shards)
    assert sum(len(json.loads(header)) - 1 for header in headers) == len(tensors)
    assert len(hub.asked("/resolve/")) == 2 * 163
    assert hub.sent < 3_000_000, "of 220 GB"
    assert hub.most_open > 8, "16 at a time, not one after the other"


def two_reads(size):
    length = int.from_bytes((yield ByteRange(0, 8)), "little")
    assert 8 + length <= size
    return (yield ByteRange(8, 8 + length))


# Who may.


def test_a_gated_model(hub, repo, monkeypatch):
    hub.gated = {"org/name": ("good",)}
    page = f"{hub.endpoint}/org/name"
    fails(GatedError, ("gated", page, "hf auth login"))
    fails(GatedError, ("gated", page, "not been given access"), token="other")
    assert json.loads(source(token="good").read("config.json", 0, 1 << 20)) == CONFIG
    monkeypatch.setenv("HF_TOKEN", "good")
    assert json.loads(source().read("config.json", 0, 1 << 20)) == CONFIG


def test_the_stored_login_is_used(hub, repo, client_home):
    hub.gated = {"org/name": ("stored",)}
    client_home.mkdir()
    (client_home / "token").write_text("stored\n")
    assert json.loads(source().read("config.json", 0, 1 << 20)) == CONFIG


@pytest.mark.slow
@pytest.mark.parametrize("file", [None, "", "stored\n", " sto\r\nred "])
@pytest.mark.parametrize("older", [None, "older"])
@pytest.mark.parametrize("given", [None, "", " \n", "gi\nven "])
def test_the_token_is_the_one_that_the_client_finds(client_home, monkeypatch, given, older, file):
    from huggingface_hub import get_token

    client_home.mkdir()
    if file is not None:
        (client_home / "token").write_text(file)
    for name, value in (("HF_TOKEN", given), ("HUGGING_FACE_HUB_TOKEN", older)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert http._stored_token() == get_token()


def test_a_token_that_cannot_be_had_is_one_line(client_home, monkeypatch):
    def fails():
        raise RuntimeError("no id token\nset HF_OIDC_ID_TOKEN")

    monkeypatch.setenv("HF_OIDC_RESOURCE", "org/name")
    monkeypatch.setattr("huggingface_hub.utils.get_token", fails)
    with pytest.raises(
        WeighbridgeError, match=r"no token: no id token set HF_OIDC.*; give --token"
    ):
        source().list()


def test_the_token_stays_with_the_hub(hub, repo):
    opened = source(token="secret")
    assert opened.read(SHARDS[0], 0, 10)
    tokens = {r.host.partition(":")[0]: r.token for r in hub.requests}
    assert tokens == {"localhost": "secret", "127.0.0.1": None}


def test_a_mirror_of_a_pasted_url_gets_no_stored_token(hub, repo, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert source(endpoint=hub.endpoint).list()
    assert hub.requests[-1].token is None
    assert source(endpoint=hub.endpoint, token="given").list()
    assert hub.requests[-1].token == "given"
    assert source().list()
    assert hub.requests[-1].token == "secret"


def test_a_token_that_is_none(hub, repo):
    for token in ("", " ", "a\nb", "é"):
        with pytest.raises(WeighbridgeError, match="token is empty or holds characters"):
            source(token=token).list()


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (401, HubError, "hf auth login"),
        (403, HubError, "accept its licence at"),
        (404, NotFoundError, "there is no model 'org/name'"),
        (410, NotFoundError, "there is no model 'org/name'"),
        (418, HubError, "the answer was 418"),
        (451, HubError, "the answer was 451: for a reason"),
    ],
)
def test_refusals_of_a_mirror_that_names_no_reason(hub, repo, status, error, word):
    hub.faults = [Fault("/api/", status=status, headers={"X-Error-Message": "for a reason"})]
    fails(error, word)
    assert len(hub.requests) == 1, "no second try will change it"


def test_what_does_not_exist(hub, repo):
    fails(NotFoundError, ("no model 'org/nothing'", hub.endpoint), repo_id="org/nothing")
    fails(NotFoundError, "org/name has no revision 'v9'; it has main, v1", revision="v9")
    fails(NotFoundError, "no file 'confg.json'; it has config.json", filename="confg.json")
    hub.private = {"org/name": ()}
    hub.missing_status = 401
    fails(HubError, ("check its spelling", "if it is private, log in"))
    opened = source(token="x")
    with pytest.raises(HubError, match=r"check its spelling$"):
        opened.list()


def test_a_file_that_vanished_after_the_listing(hub, repo):
    opened = source()
    opened.list()
    hub.faults = [Fault("/resolve/", status=404, headers={"X-Error-Code": "EntryNotFound"})]
    with pytest.raises(NotFoundError, match=r"lists 'config\.json' and does not have it"):
        opened.read("config.json", 0, 100)
    with pytest.raises(NotFoundError, match=r"org/name has no file 'other\.json'"):
        opened.read("other.json", 0, 100)
    with pytest.raises(BadFileError, match="leaves the folder"):
        opened.read("../../other/name/resolve/main/x", 0, 100)


def test_a_renamed_model_is_followed_and_said(hub, repo):
    hub.moved = {"old": "org/name", "org/older": "org/name"}
    for name in hub.moved:
        hub.requests.clear()
        opened = source(name)
        assert opened.notes == (f"{name} is now org/name",)
        assert json.loads(opened.read("config.json", 0, 1 << 20)) == CONFIG
        assert [r.status for r in hub.requests] == [307, 200, 200]


# When it does not work.


@pytest.mark.slow
def test_transient_failures_are_tried_again(hub, repo):
    hub.faults = [
        Fault("/api/", status=503, times=1),
        Fault("/api/", status=429, times=1, headers={"Retry-After": "0"}),
        Fault("config", cut=5, times=2),
        Fault("/cdn/", cut=5, times=1),
    ]
    opened = source()
    assert json.loads(opened.read("config.json", 0, 1 << 20)) == CONFIG
    assert len(opened.read(SHARDS[0], 0, 1000)) == 1000
    assert len(hub.asked("/api/")) == 3
    assert len(hub.asked("config")) == 3
    assert len(hub.asked("/cdn/")) == 2


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failures_that_stay(hub, repo, status):
    hub.faults = [Fault("/api/", status=status)]
    fails(HubError, f"answers {status}")
    assert len(hub.requests) == http.TRIES


def test_a_long_wait_is_reported_instead_of_waited_for(hub, repo, monkeypatch):
    hub.faults = [Fault("/api/", status=429, headers={"Retry-After": "300"})]
    waits = []
    monkeypatch.setattr(http.time, "sleep", waits.append)
    fails(HubError, ("answers 429", "again in 300 s", "hf auth login"))
    assert not any(waits)  # 0 s are those of the server here
    assert len(hub.requests) == 1


def test_an_answer_that_is_always_cut(hub, repo):
    hub.faults = [Fault("/cdn/", cut=50)]
    opened = source()
    with pytest.raises(HubError, match=r"cannot be reached|cut its answer"):
        opened.read(SHARDS[0], 0, 1000)
    assert len(hub.asked("/cdn/")) == http.TRIES


def test_a_content_length_that_lies(hub, repo):
    hub.faults = [Fault("config", extra=1000)]
    fails(HubError, "cannot be reached")
    hub.faults = [Fault("/cdn/", extra=1000)]
    assert len(source().read(SHARDS[0], 0, 1000)) == 1000, "all wanted bytes are there"


def test_a_server_without_ranges(hub, repo):
    hub.faults = [Fault("/cdn/", ranges=False)]
    os.truncate(repo / SHARDS[0], 1 << 40)
    opened, expected = source(), beginning(repo / SHARDS[0], 2000)
    assert opened.read(SHARDS[0], 0, 1000) == expected[:1000]
    assert opened.read(SHARDS[0], 1000, 2000) == expected[1000:]
    assert hub.sent < 16 << 20, "of a terabyte: what sockets hold"
    with pytest.raises(HubError, match="serves no byte ranges"):
        opened.read(SHARDS[0], -10, 0)


@pytest.mark.slow
@pytest.mark.parametrize("range_", ["bytes -5-9/3", "bytes 0-9/3", ""])
def test_a_part_where_the_whole_was_asked_for(hub, repo, range_):
    headers = {"Content-Range": range_} if range_ else {}
    hub.faults = [Fault("config", status=206, headers=headers, body=b"{}")]
    with pytest.raises(HubError, match="answered with a part of a file that was asked for whole"):
        source().read("config.json", 0, 1 << 20)


@pytest.mark.slow
def test_a_server_that_sends_another_range(hub, repo):
    hub.faults = [
        Fault("/cdn/", status=206, headers={"Content-Range": "bytes 7-9/100"}, body=b"abc")
    ]
    with pytest.raises(HubError, match="bytes from 7 where 0 was asked for"):
        source().read(SHARDS[0], 0, 1000)
    hub.faults = [Fault("/cdn/", status=206, headers={"Content-Range": "lines 1"}, body=b"abc")]
    with pytest.raises(HubError, match="answered with the range 'lines 1'"):
        source().read(SHARDS[0], 0, 1000)


@pytest.mark.slow
def test_a_slow_server(hub, repo, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    monkeypatch.setattr(http, "PATIENCE", 0.15)
    hub.faults = [Fault("/api/", delay=0.5)]
    fails(HubError, "cannot be reached")


def test_a_trickle_ends(hub, repo, monkeypatch):
    monkeypatch.setattr(http, "MAX_SECONDS", -1)
    fails(HubError, "took more than")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>login</html>",
        b"[]",
        b"{}",
        b'{"siblings": [1]}',
        b'{"siblings": [{"rfilename": 1}]}',
        b'{"siblings": [{"rfilename": "../../x"}]}',
        b'{"siblings": ' + b"[" * 100_000,
        b"\xff",
    ],
)
def test_an_endpoint_that_is_no_hub(hub, repo, body):
    hub.faults = [Fault("/api/", body=body)]
    fails(HubError, "does not answer as a Hub does")


def test_bounds(hub, repo, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_ENTRIES", 3)
    fails(HubError, "lists 4 files; our limit is 3")
    monkeypatch.setattr(hub_module, "MAX_LISTING", 100)
    fails(HubError, "larger than 100 bytes")


def test_sizes_and_commits_are_not_needed(hub, repo):
    listing = {"siblings": [{"rfilename": "config.json"}, {"rfilename": SHARDS[0], "size": "big"}]}
    hub.faults = [Fault("/api/", body=json.dumps(listing).encode())]
    opened = source()
    assert opened.list() == (SourceFile("config.json", None), SourceFile(SHARDS[0], None))
    assert opened.revision is None
    assert json.loads(opened.read("config.json", 0, 1 << 20)) == CONFIG
    assert opened.read(SHARDS[0], -4, 0) == bytes(4)
    assert opened.read(SHARDS[0], 1 << 30, 1 << 31) == b"", "416: beyond the end"
    assert hub.requests[1].path == "/org/name/resolve/main/config.json"


# The cache, filled by the real client.


@pytest.fixture
def downloaded(hub, repo, monkeypatch):
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    copied = "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE"  # by version 0
    monkeypatch.setattr(copied, template, raising=False)
    path = snapshot_download("org/name", endpoint=hub.endpoint)
    hub.requests.clear()
    return path


@pytest.mark.slow
def test_a_current_snapshot_is_read_from_disk(hub, repo, downloaded):
    opened = source()
    for entry in opened.list():
        assert opened.read(entry.path, 0, entry.size) == (repo / entry.path).read_bytes()
    assert [r.path for r in hub.requests] == ["/api/models/org/name?blobs=true"]
    assert downloaded.endswith(opened.revision)


@pytest.mark.slow
def test_an_old_snapshot_is_not(hub, repo, downloaded):
    (repo / "config.json").write_text('{"model_type": "newer"}')
    assert b"newer" in source().read("config.json", 0, 1 << 20)
    assert b"llama" in source(offline=True).read("config.json", 0, 1 << 20)


@pytest.mark.slow
def test_a_part_of_a_snapshot_is_completed_from_the_network(hub, repo, downloaded):
    os.unlink(f"{downloaded}/{SHARDS[0]}")
    opened = source()
    assert opened.read(SHARDS[0], 0, 100) == (repo / SHARDS[0]).read_bytes()[:100]
    assert opened.read(SHARDS[1], 0, 100) == (repo / SHARDS[1]).read_bytes()[:100]
    assert len(hub.asked("/cdn/")) == 1


@pytest.mark.slow
def test_offline_asks_nobody(hub, repo, downloaded, monkeypatch):
    from huggingface_hub import constants

    opened = source(offline=True)
    assert [e.path for e in opened.list()] == [
        "config.json",
        *SHARDS,
        "model.safetensors.index.json",
    ]
    assert downloaded.endswith(opened.revision)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert source().list() == source(revision="main").list() == opened.list()
    assert json.loads(source().read("config.json", 0, 1 << 20)) == CONFIG
    os.unlink(f"{downloaded}/{SHARDS[0]}")
    with pytest.raises(HubError, match="is not in the cache, and we are offline"):
        source().read(SHARDS[0], 0, 100)
    fails(HubError, ("org/name@v1 is not in the cache", "hf download"), revision="v1")
    fails(HubError, "org/other is not in the cache", repo_id="org/other")
    assert not hub.requests


@pytest.mark.slow
def test_without_a_network_the_cache_serves_and_says_so(hub, repo, downloaded):
    hub.faults = [Fault("/api/", status=503)]
    opened = source()
    assert json.loads(opened.read("config.json", 0, 1 << 20)) == CONFIG
    (note,) = opened.notes
    assert "answers 503" in note
    assert "read from the cache" in note


@pytest.mark.slow
def test_no_network_and_no_cache(repo, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:9")
    fails(HubError, ("org/name: localhost:9 cannot be reached", "the cache holds nothing of it"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://no-such-host.invalid")
    fails(HubError, "no-such-host.invalid cannot be reached")


@pytest.mark.slow
def test_a_cache_elsewhere(hub, repo, downloaded, tmp_path):
    opened = HubSource(HubRef(repo_id="org/name"), SourceOptions(cache_dir=str(tmp_path / "other")))
    assert opened.read("config.json", 0, 1 << 20)
    assert hub.asked("/resolve/")


# A process of its own: the environment, and what is imported.

SCRIPT = """
import sys
from weighbridge.models.sources.base import SourceOptions
from weighbridge.models.sources import open_source, resolve
source = open_source(resolve(sys.argv[1], catalogue=lambda name: False), SourceOptions())
print(source.revision, len(source.read("config.json", 0, 1 << 20)))
print(*sys.modules)
"""


def run(hub, tmp_path, reference="org/name", **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), **environment}
    command = [sys.executable, "-X", "utf8", "-c", SCRIPT, reference]
    done = subprocess.run(
        command, env=clean | settings, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.splitlines(), done.stderr


@pytest.mark.slow
def test_the_environment_configures_the_client(hub, repo, tmp_path):
    out, err = run(hub, tmp_path)
    assert not err
    assert out[0] == f"{hub.commit('org/name')} {(repo / 'config.json').stat().st_size}"
    assert [r.path for r in hub.requests] == [
        "/api/models/org/name?blobs=true",
        f"/org/name/resolve/{hub.commit('org/name')}/config.json",
    ]
    loaded = set(out[1].split())
    for module in ("hf_api", "file_download", "inference"):
        assert f"huggingface_hub.{module}" not in loaded
    assert not loaded & {"torch", "numpy"}
    _, err = run(hub, tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "new"))
    assert "not in the cache" in err
    again, err = run(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert again[0] == out[0], "what was fetched is kept"
    out, err = run(hub, tmp_path, f"{hub.endpoint}/org/name/tree/v1")
    assert not err
    assert hub.requests[-1].path == "/api/models/org/name/revision/v1?blobs=true"


@pytest.mark.slow
def test_a_proxy_of_the_environment_is_used(hub, repo, tmp_path):
    proxy = f"http://127.0.0.1:{hub.port}"
    clean = {"NO_PROXY": "", "no_proxy": "", "HTTP_PROXY": proxy, "http_proxy": proxy}
    run(hub, tmp_path, HF_ENDPOINT="http://hub.invalid", **clean)
    assert hub.requests[0].host == "hub.invalid"


def test_headers_of_files_that_are_mostly_holes(hub):
    """The writer's own files: a header of 8 + n bytes, then a hole of the tensors' size."""
    size = write_safetensors(hub.root / "org/hole/model.safetensors", {"w": ("F8_E4M3", (3, 5))})
    data = (hub.root / "org/hole/model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["w"] == {"dtype": "F8_E4M3", "shape": [3, 5], "data_offsets": [0, 15]}
    assert len(data) == size == 8 + int.from_bytes(data[:8], "little") + 15


@all_of(
    ("address", "fine"),
    [
        ("https://huggingface.co", True),
        ("http://user:pw@host:8080/hub", True),
        ("http://localhost:99999", False),
        ("http://localhost:0", False),
        ("file:///etc", False),
        ("ftp://host", False),
        ("nonsense", False),
    ],
)
def test_an_endpoint_is_an_address_of_http(address, fine):
    if fine:
        assert http.endpoint(address) == address
    else:
        with pytest.raises(UsageError, match="no address of a Hub over HTTP"):
            http.endpoint(address)
