"""Shared parts of the tests of what other estimators get wrong.

Each test names the tool and the version that has the defect."""

from contextlib import suppress
from functools import cache

import pytest

import weighbridge
from tests import packings
from tests.hub import Hub
from tests.sparse import nbytes, write_repo
from weighbridge.models.checkpoint.gather import GatherOptions, gather
from weighbridge.models.checkpoint.model import resolve

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


LLAMA_2_7B = LLAMA | {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}


LLAMA_3_8B = LLAMA_2_7B | {
    "vocab_size": 128256,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
}


LLAMA_3_70B = LLAMA_3_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}


QWEN3_06B = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


TINY = packings.CONFIG


def parameters(model, **settings):
    return weighbridge.load(model, **settings).model.parameters


def gib(nbytes):
    return round(nbytes / 2**30, 2)


@cache
def listed(name):
    """A model of the catalogue, counted and not priced."""
    return resolve(gather(name, GatherOptions()))


def rows(report):
    return {row.dtype: row for row in report.table}


def held(report, name="weights"):
    """Expected bytes of a component on the accelerator."""
    (phase,) = report.devices[0].phases
    return sum(c.bytes.expected for c in phase.components if c.name == name)


def size_of(tensors):
    return sum(nbytes(*tensor) for tensor in tensors.values())


def repo(folder, tensors, config=None, **more):
    return str(write_repo(folder, TINY if config is None else config, tensors, **more))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Repositories, and a stand-in Hub that serves them."""
    root = tmp_path_factory.mktemp("shelf")
    write_repo(root / "org/plain", TINY, packings.plain(), shards=3)
    with Hub(root) as hub:
        yield hub
    with suppress(ImportError):  # huggingface_hub 0 has none
        from huggingface_hub.utils import close_session

        close_session()


@pytest.fixture
def hub(shelf, tmp_path, monkeypatch):
    """The stand-in as HF_ENDPOINT, with an empty cache and nobody logged in."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    template = shelf.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", shelf.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_ENDPOINT", shelf.endpoint)
    shelf.faults.clear()
    shelf.requests.clear()
    return shelf
