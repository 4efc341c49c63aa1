"""A stand-in Hub for each test, and the real client pointed at it with an empty home."""

from contextlib import suppress

import pytest

from tests.hub import Hub
from weighbridge.models.sources import http, search, wire

SEARCH = search.named

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@pytest.fixture
def client_home(tmp_path, monkeypatch):
    """huggingface_hub reads its environment at import, so its constants are set as well."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(http, "BACKOFF", 0.01)
    return home


@pytest.fixture
def hub(tmp_path, client_home, monkeypatch):
    from huggingface_hub import constants

    (tmp_path / "repos").mkdir()
    with Hub(tmp_path / "repos") as running:
        template = running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(search, "named", SEARCH)
        yield running


@pytest.fixture(scope="session", autouse=True)
def closed_session():
    yield
    wire.IDLE.close()
    with suppress(ImportError):  # huggingface_hub 0 has none
        from huggingface_hub.utils import close_session

        close_session()
