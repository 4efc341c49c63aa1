"""`--emit trainer`: the script runs with the classes of transformers and PEFT, up to the first step.

The weights are those of a small model of the same class, and no card is there: the arguments, the
config of the adapters and the rows are the real ones, and so is the way from each to the next.
"""

import runpy
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from tests.torch.emitted import on_a_card, same_adapters, same_arguments, same_packing, written

SMALL = LlamaConfig(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=64,
)
CASES = {
    "full": {"gpu": "h200"},
    "sizes": {"gpu": "h200", "batch_size": 3, "gradient_accumulation": 5, "seq_len": 512},
    "fp16": {"gpu": "h200", "precision": "fp16-mixed", "optimizer": "paged_adamw_8bit"},
    "fp32": {"gpu": "h200", "precision": "fp32", "attention": "eager"},
    "checkpoints": {"gpu": "h200", "checkpointing": "full", "use_reentrant": False},
    "reentrant": {"gpu": "h200", "checkpointing": "full", "use_reentrant": True},
    "liger": {"gpu": "h200", "loss": "liger", "attention": "flash"},
    "lora": {
        "gpu": "h100",
        "method": "lora",
        "lora_r": 32,
        "lora_alpha": 64,
        "lora_targets": "all-linear",
        "use_rslora": True,
    },
    "dora": {"gpu": "h100", "method": "dora", "lora_targets": "q_proj,down_proj"},
    "saved": {"gpu": "h100", "method": "lora", "modules_to_save": "lm_head"},
    "qlora": {"gpu": "4090", "method": "qlora", "checkpointing": "full"},
    "nested": {"gpu": "4090", "method": "qlora", "quantization": "nf4-dq"},
    "int8": {"gpu": "h100", "method": "lora", "quantization": "bnb-int8"},
    "fsdp2": {"gpu": "h100:8", "shard": "fsdp2", "offload": "params"},
    "zero2": {"gpu": "h100:4", "shard": "zero2", "offload": "optimizer", "batch_size": 2},
    "zero3": {"gpu": "h100:8", "shard": "zero3", "gradient_accumulation": 4},
}


class Stands:
    """The Trainer, without its steps."""

    def __init__(self, model, args, train_dataset, data_collator):
        self.model, self.args, self.rows = model, args, train_dataset

    def train(self):
        SEEN["trainer"] = self


SEEN: dict = {}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return what runs a script, and returns what it told from_pretrained and the Trainer."""

    def small(cls, name, dtype, quantization_config=None, **told):
        SEEN["loaded"] = {"name": name, "dtype": dtype, "packed": quantization_config, **told}
        return LlamaForCausalLM(SMALL).to(dtype)

    def start():
        SEEN.clear()
        runpy.run_path("train.py", run_name="__main__")
        return SEEN["loaded"], SEEN["trainer"]

    on_a_card(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", classmethod(small))
    monkeypatch.setattr(transformers, "Trainer", Stands)
    return start


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_a_script_starts_the_step_that_was_asked_for(tmp_path, started, settings):
    made = written(tmp_path, "trainer", "train.py", settings)
    loaded, trainer = started()
    asked = made.report.workload
    same_arguments(trainer.args, {**asked, "precision": autocast(asked["precision"])})
    adapters = getattr(trainer.model, "peft_config", {}).get("default")
    same_adapters(adapters, {**asked, "lora_targets": layers(asked["lora_targets"])})
    same_packing(loaded["packed"], asked)
    assert loaded["name"] == "meta-llama/Llama-3.1-8B"
    assert loaded["dtype"] is getattr(torch, asked["dtype"])
    kernels = {"flash": "flash_attention_2", "eager": "eager"}
    assert loaded.get("attn_implementation") == kernels.get(asked["attention"])
    assert {len(row["input_ids"]) for row in trainer.rows} == {asked["seq_len"]}
    trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert all("lora" in name or "modules_to_save" in name for name in trained) is (
        asked["method"] != "full"
    )


def layers(targets):
    """Return the layers that are adapted, as PEFT names them once it found them in a model."""
    if list(targets or ()) != ["all-linear"]:
        return targets
    parts = LlamaForCausalLM(SMALL).model.named_modules(prefix="model")
    return [name for name, part in parts if isinstance(part, torch.nn.Linear)]


def autocast(precision):
    """Return what TrainingArguments are told of a precision without autocast: nothing."""
    return precision if precision.endswith("-mixed") else "fp32"
