"""Where a model may be: mirrors, folders, the cache of the Hub, no network at all."""

import pytest

import weighbridge
from tests.packings import PARAMETERS
from tests.peers.conftest import parameters


# hf-mem, accelerate 1.15.0: where a model may be
@pytest.mark.slow
def test_mirrors_are_honoured(hub):
    assert parameters("org/plain") == PARAMETERS
    assert {r.host for r in hub.requests} <= {f"localhost:{hub.port}", f"127.0.0.1:{hub.port}"}
    hub.requests.clear()
    assert parameters("https://huggingface.co/org/plain/tree/main") == PARAMETERS
    assert hub.requests


@pytest.mark.parametrize("form", ["{0}", "{0}/", "{0}/../plain", "{0}/config.json"])
def test_absolute_paths(hub, form):
    assert parameters(form.format(hub.root / "org" / "plain")) == PARAMETERS


@pytest.mark.parametrize(
    "form",
    ["org/plain", "./org/plain", "org/plain/", "org/../org/plain", "./org/plain/config.json"],
)
def test_relative_paths_win_over_the_hub(hub, monkeypatch, form):
    monkeypatch.chdir(hub.root)
    assert parameters(form) == PARAMETERS
    assert hub.requests == []


def test_home_links_and_dots(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(hub.root))
    assert parameters("~/org/plain") == PARAMETERS
    (tmp_path / "link").symlink_to(hub.root / "org" / "plain")
    assert parameters(str(tmp_path / "link")) == PARAMETERS
    monkeypatch.chdir(tmp_path / "link")
    assert parameters(".") == PARAMETERS


@pytest.mark.slow
def test_a_folder_of_the_hub_cache(hub, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot = snapshot_download("org/plain", cache_dir=tmp_path / "cache", endpoint=hub.endpoint)
    assert parameters(snapshot) == PARAMETERS
    assert parameters(str(tmp_path / "cache" / "models--org--plain")) == PARAMETERS


@pytest.mark.slow
def test_offline_from_the_cache(hub, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download("org/plain", cache_dir=tmp_path / "cache", endpoint=hub.endpoint)
    hub.requests.clear()
    report = weighbridge.load("org/plain", cache_dir=str(tmp_path / "cache"), offline=True)
    assert (report.model.parameters, hub.requests) == (PARAMETERS, [])
    online = weighbridge.load("org/plain", cache_dir=str(tmp_path / "cache"))
    assert online.model.parameters == PARAMETERS
    assert hub.asked(r"safetensors$") == []


def test_offline_by_the_environment(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(weighbridge.HubError):
        weighbridge.load("org/plain")
    assert hub.requests == []
    assert parameters("llama-3.1-8b") == 8_030_261_248
