"""A model of four small layers, in files, that every program takes: what asks about it is quick."""

import pytest
from tests.sparse import write_repo
from tests.tiny import NAMED

from weighbridge.files.runfiles.training import shapes
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

SMALL = {
    **NAMED,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("org") / "tiny"
    return str(write_repo(folder, SMALL, blueprint(Config(SMALL))))


@pytest.fixture
def tiny_shape(monkeypatch):
    """Let programs that know models by their sizes take it for Llama 3's 8B."""
    shape = shapes.SHAPES["llama-3-8b"]._replace(
        hidden=SMALL["hidden_size"],
        layers=SMALL["num_hidden_layers"],
        heads=SMALL["num_attention_heads"],
        kv_heads=SMALL["num_key_value_heads"],
        feed=SMALL["intermediate_size"],
        vocab=SMALL["vocab_size"],
    )
    monkeypatch.setattr(shapes, "SHAPES", {**shapes.SHAPES, "llama-3-8b": shape})
