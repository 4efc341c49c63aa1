"""Training steps of small decoders beside the real classes: all that is saved, byte for byte, and
the peaks of forward, loss, backward and step."""

import pytest

pytest.importorskip("torch", reason="the oracle trains transformers' classes")
pytest.importorskip("transformers", reason="the oracle trains transformers' classes")

import torch

from tests.cases import each
from tests.torch.cases_training import CLOSE, SMALL, same
from tests.torch.training_oracle import differences, ours, real, settled
from weighbridge.base.dtypes import TORCH
from weighbridge.machines.kernels import attention as kernels
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.attention import AttentionHeads, AttentionOptions
from weighbridge.training.forward.parts.attention import call_of
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed
from weighbridge_lab.trace.attention import Chooser, SdpaCall
from weighbridge_lab.trace.card import card

NAMED = ("llama", "qwen3", "gemma3_text", "gpt2", "gpt_neox", "phi3")
MIXED = {"precision": "bf16-mixed"}
FULL = {"checkpointing": True}


@pytest.mark.parametrize("settings", [MIXED, {"precision": "fp32"}, FULL], ids=str)
@pytest.mark.parametrize("kind", each(2, NAMED))
def test_a_step_has_the_classs_saved_tensors_and_peaks(kind, settings):
    same(kind, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"padded": True},
        {"padded": True, "seq_len": 100},  # masks are filled up to a multiple of 16
        {"attention": "eager"},
        {"kernel": "math", **MIXED},
        {"batch_size": 1, **FULL},
        {"accumulation": 2},
        {"framework": "trainer", **MIXED},
        {"reentrant": True, **FULL},
        {"gpu": "h100-sxm"},  # cuDNN's attention
        {"gpu": "t4", "precision": "fp16-mixed"},  # groups and no flash attention: math
    ],
    ids=str,
)
def test_llama_however_it_is_trained(settings):
    same("llama", **settings)


def test_an_embedding_that_is_the_head():
    config = {**SMALL, "tie_word_embeddings": True}
    assert differences(real("llama", config), ours("llama", config), close=CLOSE) == []


CARDS = ("a100-80gb", "h100-sxm", "rtx-4090", "t4")


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_kernel_of_attention_is_torchs_choice(name, dtype):
    """The chooser of the trace is asked the same."""
    there = Chooser(card(name, None)[0], (2, 13))
    step = TrainingStep.__new__(TrainingStep)
    step.m, step.torch, step.transformers = Machine(Heap(None)), (2, 13), (5, 23)
    step.m.chip = there.card.chip
    for groups in (1, 4):
        for dim in (33, 64, 80, 128, 136, 200, 224, 256, 264):
            for masked in (False, True):
                asked = AttentionHeads(
                    batch=1,
                    length=64,
                    seen=64,
                    heads=8,
                    kv_heads=8 // groups,
                    key_dim=dim,
                    value_dim=dim,
                )
                q = Computed((1, 64, 8, dim), TORCH[dtype], None)
                mask = Computed((1, 1, 64, 64), TORCH["bool"], None) if masked else None
                told = call_of(step, asked, AttentionOptions(mask=mask))
                here = kernels.first(asked.shape(q.dtype), told, step.m.chip, step.torch)
                assert here == there.choose(call(dtype, asked, masked)), (dim, groups, masked)


def call(dtype, h, masked):
    def made(heads):
        return torch.empty(1, heads, 64, h.key_dim, dtype=getattr(torch, dtype), device="meta")

    return SdpaCall(
        query=made(h.heads).requires_grad_(),
        key=made(h.kv_heads),
        value=made(h.kv_heads),
        mask=torch.empty(1, 1, 64, 64, dtype=torch.bool, device="meta") if masked else None,
        causal=not masked,
        gqa=h.groups > 1,
    )


def test_settings_reach_the_plan():
    made = settled({"model_type": "llama", **SMALL}, precision="bf16", padded=True, seq_len=64)
    assert (made.padded, made.length, made.dtype.name) == (True, 64, "bfloat16")
