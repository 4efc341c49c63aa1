"""PEFT's comparison of methods and AgileRL's updates, as programs on the fake GPU.

All their figures: `make traced`. Here a few layers of each, by hand, and what decides the figures.
"""

import copy
from dataclasses import replace
from importlib.util import find_spec

import pytest

if not all(map(find_spec, ("torch", "transformers", "peft", "diffusers"))):
    pytest.skip("torch, transformers, peft or diffusers is not installed", allow_module_level=True)

import torch

from weighbridge import FakeGPU
from weighbridge.base.units import MIB
from weighbridge_lab.evidence import records as evidence
from weighbridge_lab.evidence.programs import PROGRAMS, agilerl, peft_methods

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
QWEN, LLAMA = "Qwen/Qwen2.5-0.5B-Instruct", "meta-llama/Llama-3.2-3B"
LORA = {"peft_type": "LORA", "r": 32, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"]}
WORKSPACES = 2 * 8519680 + 2 * MIB  # of cuBLAS and cuBLASLt, in the two threads that multiply


@pytest.fixture
def short(monkeypatch):
    """Models of two layers; all else is as it was."""
    whole = peft_methods.config
    cut = {"num_hidden_layers": 2, "layer_types": None}
    monkeypatch.setattr(peft_methods, "config", lambda origin: {**whole(origin), **cut})


def peak(program, gpu="l40s", **setting):
    with FakeGPU(gpu, torch_version="2.13") as fake:
        program("cuda", **setting)
    return fake.tape.allocated.nbytes, fake.tape.reserved.nbytes


def metamath(adapter, **setting):
    return peak(peft_methods.metamath, model=LLAMA, adapter=adapter, longest=224, **setting)[0]


def test_the_published_number_of_parameters():
    """3,875,544,576 are printed for the image model without adapters."""
    from diffusers import Flux2Transformer2DModel

    with torch.device("meta"):
        net = Flux2Transformer2DModel(**PROGRAMS["peft_pictures"].settings["transformer"])
    assert sum(p.numel() for p in net.parameters()) == 3_875_544_576


def test_a_batch_is_padded_and_so_has_a_mask():
    batch = peft_methods.padded(4, 60)
    assert batch["attention_mask"].sum(dim=1).tolist() == [60, 51, 42, 33]


@pytest.mark.usefixtures("short")
def test_a_frozen_half_of_an_adapter_is_trained_again():
    """LoRA-FA freezes A, but the base model is measured between that and the training, and the
    adapters come back whole: the float32 inputs of A are saved for its gradient, as LoRA's are."""
    whole = metamath(LORA)
    half = metamath(LORA, optimizer="lora-fa", r=32, lora_alpha=64, lr=1e-4)
    inputs = 2 * 2 * 4 * 224 * 3072 * 4  # layers, projections, rows
    assert abs(whole - half) < inputs / 2


@pytest.mark.usefixtures("short")
def test_an_update_of_one_step_by_hand():
    """At the step: weights, both adapters in float32, and of the actor's the gradients, the two
    moments and the denominators."""
    from transformers import AutoConfig, AutoModelForCausalLM

    made = AutoConfig.for_model(**peft_methods.config(evidence.origins()[QWEN]))
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
    weights = 2 * sum(p.numel() for p in base.parameters())
    sides = 896 + 896, 896 + 128, 896 + 128, 896 + 896, *[896 + 4864] * 3
    actor = 4 * 64 * 2 * sum(sides)
    found, _ = peak(
        agilerl.learn, model=QWEN, tokens=16, micro_batch=4, group_size=4, rank=64, gpu="l4"
    )
    by_hand = weights + 6 * actor + WORKSPACES
    assert by_hand < found < by_hand + 4 * MIB


def test_a_layer_is_copied():
    """LN tuning copies a norm: without the fake mode, and with what is known of values."""
    with FakeGPU("l40s"):
        layer = torch.nn.LayerNorm(64, device="cuda")
        layer.weight = torch.nn.Parameter(torch.ones(64, device="cuda"))
        before = torch.cuda.memory_allocated()
        copied = copy.deepcopy(layer)
        assert torch.cuda.memory_allocated() - before == 2 * 512
        assert copied.weight.device == layer.weight.device
        assert copied.weight.fake_mode is layer.weight.fake_mode
        assert copied.weight[0].item() == 1
        assert isinstance(copied.weight, torch.nn.Parameter)


def test_tiles_of_logits():
    """256 MiB in float32: 441 rows for a vocabulary of 151,936."""
    assert next(iter(agilerl.tiles(2000, 151936))).stop == 441
    assert [t.stop - t.start for t in agilerl.tiles(1000, 10**7)] == [128] * 7 + [104]


@pytest.mark.parametrize(
    ("source", "count", "said"), [("peft", 93, ["peft-125"]), ("agilerl_allocated_pairs", 27, [])]
)
def test_every_record_of_the_source_is_here(source, count, said):
    """Figures that are `said` by the settings of train have no program: a page that shards a model
    over eight cards."""
    found = evidence.chosen(source=source)
    assert len(found) == count
    others = [r for r in found if not r.skip and r.program not in PROGRAMS]
    assert [r.id for r in others] == said
    assert all(r.program is None and r.task == "train" and r.setting for r in others)
    assert not [r.id for r in found if replace(r, measured=0).measured == r.measured]
