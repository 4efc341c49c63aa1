"""A repository's own code: run when the user says so, and never otherwise. And configs that a class
of transformers breaks on: one plain line."""

import json

import pytest

import weighbridge
from tests.ask import requested
from weighbridge.faces.web.protocol import AskDesk

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


SIZES = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 100, "intermediate_size": 128,
}  # fmt: skip


@pytest.mark.parametrize("within", [{"text_config": SIZES | {"model_type": "ministral3"}}, SIZES])
def test_a_class_that_is_made_of_another_config_is_named(within):
    """It told: 'dict' object has no attribute 'to_dict'."""
    named = {"model_type": "ministral3", "architectures": ["Mistral3ForConditionalGeneration"]}
    with pytest.raises(weighbridge.BadFileError) as caught:
        weighbridge.load({**named, **within})
    assert "is made of a config of model type 'mistral3', and this one says" in str(caught.value)
    assert "attribute" not in str(caught.value)


def test_what_a_class_reads_and_a_config_has_not_is_named():
    from weighbridge.models.arch import torch_modules

    def built():
        return {}.to_dict()

    with pytest.raises(weighbridge.BadFileError, match="reads 'to_dict', which this config does"):
        torch_modules._built("model type 'x'", built)


@pytest.mark.parametrize(("lang", "says"), [("en", "is not run here"), ("zh", "这里不运行")])
def test_code_of_a_models_own_is_not_asked_for_by_a_flag(lang, says):
    told = {"view": {"lang": lang}, "task": "load"}
    found = requested(AskDesk(offline=True), {"config": {"model_type": "new"}}, **told)["error"]
    assert says in found["message"]
    assert "--" not in found["message"]
