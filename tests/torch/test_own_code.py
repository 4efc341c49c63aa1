"""A repository's own code: run when the user says so, and never otherwise."""

import json

import pytest

import weighbridge

pytest.importorskip("transformers")

CODE = """
import pathlib
import torch
from transformers import PreTrainedConfig, PreTrainedModel

pathlib.Path(__file__).with_name("ran").touch()


class OwnConfig(PreTrainedConfig):
    model_type = "never_heard_of"

    def __init__(self, width=8, **rest):
        super().__init__(**rest)
        self.width = width


class OwnForCausalLM(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.inner = torch.nn.Linear(config.width, 3)
        self.post_init()
"""


@pytest.fixture
def folder(tmp_path):
    config = {
        "model_type": "never_heard_of",
        "architectures": ["OwnForCausalLM"],
        "width": 5,
        "auto_map": {
            "AutoConfig": "own.OwnConfig",
            "AutoModelForCausalLM": "own.OwnForCausalLM",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(CODE)
    return tmp_path


def test_it_is_not_run_by_default(folder):
    with pytest.raises(weighbridge.UnsupportedError, match="--trust-remote-code"):
        weighbridge.load(folder)
    assert not (folder / "ran").exists()


def test_it_is_run_when_trusted(folder, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(folder / "modules"))
    report = weighbridge.load(folder, trust_remote_code=True)
    assert (report.model.parameters, report.model.architecture) == (5 * 3 + 3, "OwnForCausalLM")
