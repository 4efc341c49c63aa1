"""Programs of decoders, without torch: what a layer saves by measured formulas, laws, edges.

The bytes of a token and a layer were measured with saved_tensors_hooks on the classes of
transformers 5.23 (bfloat16 weights, flash attention, no dropout): h hidden, f feed-forward, q and v
all queries and all values of a token, n and k heads of both.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import all_of
from tests.torch.training_oracle import settled
from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT16, FLOAT32
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.machines.kernels import attention as kernels
from weighbridge.memory.components.activations import Heap
from weighbridge.models.arch.model_types import facts
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.attention import AttentionHeads, AttentionOptions
from weighbridge.training.forward.ops.shaping import over_rows
from weighbridge.training.forward.parts.attention import call_of
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed
from weighbridge.training.run import run

H, F, N, K, D = 256, 768, 8, 2, 32
Q, V = N * D, K * D
TOKENS = 512  # of one sequence; all blocks are whole then
PLAIN = {
    "hidden_size": H,
    "intermediate_size": F,
    "num_attention_heads": N,
    "num_key_value_heads": K,
    "head_dim": D,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}
OLD = {"n_embd": H, "n_head": N, "n_positions": 2048, "vocab_size": 512}
NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


def trained(kind, layers=2, **more):
    count = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    own = {**OLD, **NO_DROPOUT} if kind == "gpt2" else PLAIN
    config, said = dict(own), {"precision": "bf16", "framework": "plain", "seq_len": TOKENS}
    for key, value in more.items():
        (said if key in SETTINGS else config)[key] = value
    return run(settled({"model_type": kind, count: layers, **config}, **said))


SETTINGS = ("precision", "seq_len", "batch_size", "checkpointing", "attention", "padded", "gpu")


def of_a_layer(kind, **more):
    """Bytes that one more layer saves."""
    return trained(kind, 3, **more).saved - trained(kind, 2, **more).saved


MEASURED = {
    "llama": 16 * H + 8 * F + 4 * (Q + V) + 4 * N + 8,
    "mistral": 16 * H + 8 * F + 4 * (Q + V) + 4 * N + 8,
    "qwen3": 16 * H + 8 * F + 10 * (Q + V) + 4 * N + 4 * (N + K) + 8,
    "gemma3_text": 36 * H + 8 * F + 12 * (Q + V) + 8 * N + 4 * K + 16,
    "gpt2": 56 * H + 4 * N + 8 + 8,  # where it was measured, on a CPU, means were of 16 bits
}
# Weights of norms in float32, and the two numbers of flash attention's dropout, are no tokens'
BESIDES = {"gemma3_text": 4 * (4 * H + 2 * D)}
RANDOM = 16 + 8


@pytest.mark.parametrize("kind", MEASURED)
def test_a_layer_saves_what_was_measured(kind):
    wide = {"sliding_window": 4096} if kind in ("mistral", "gemma3_text") else {}
    assert of_a_layer(kind, **wide) == TOKENS * MEASURED[kind] + RANDOM + BESIDES.get(kind, 0)


def test_under_autocast_a_layer_saves_its_weights_again():
    weights = 2 * (H * (2 * Q + 2 * V) + 3 * H * F)
    token = 26 * H + 8 * F + 4 * (Q + V) + 4 * N + 8
    assert of_a_layer("llama", precision="bf16-mixed") == TOKENS * token + weights + RANDOM


def test_a_checkpointed_layer_saves_its_input():
    assert of_a_layer("llama", checkpointing="full") == TOKENS * 2 * H


def test_eager_attention_saves_its_scores_twice():
    """Softmax in float32 and its copy; and keys and values for all heads, which are then not
    saved as they are. No sums of rows, and nothing random."""
    flash, eager = of_a_layer("llama"), of_a_layer("llama", attention="eager")
    assert eager - flash == 6 * N * TOKENS**2 + TOKENS * (4 * (Q - V) - 4 * N) - RANDOM


def test_a_window_shorter_than_the_sequence_needs_a_mask():
    """Repeated keys and values; the mask in bfloat16, which each layer makes for itself."""
    whole, cut = of_a_layer("mistral"), of_a_layer("mistral", sliding_window=128)
    assert cut - whole == 2 * TOKENS**2 + TOKENS * 4 * (Q - V) - 8


def test_dropout_saves_a_byte_a_number():
    """GPT-2: behind attention and feed-forward; flash attention keeps none."""
    rates = {"attn_pdrop": 0.1, "resid_pdrop": 0.1}
    assert of_a_layer("gpt2", **rates) - of_a_layer("gpt2") == 2 * TOKENS * H


def heads(groups=1, dim=64):
    facts = {"batch": 1, "length": 64, "seen": 64, "key_dim": dim, "value_dim": dim}
    return AttentionHeads(heads=8, kv_heads=8 // groups, **facts)


MASK = AttentionOptions(mask=Computed((1, 1, 64, 64), BOOL, None))
CHOICES = [
    ((8, 0), BFLOAT16, heads(), AttentionOptions(), "flash"),
    ((8, 0), BFLOAT16, heads(), MASK, "efficient"),
    ((8, 0), FLOAT32, heads(), AttentionOptions(), "efficient"),
    ((8, 0), FLOAT32, heads(groups=4), AttentionOptions(), "math"),
    ((7, 5), FLOAT16, heads(), AttentionOptions(), "efficient"),
    ((7, 5), BFLOAT16, heads(), AttentionOptions(), "math"),
    ((9, 0), BFLOAT16, heads(), MASK, "cudnn"),
    ((9, 0), BFLOAT16, heads(dim=36), AttentionOptions(), "flash"),
    ((8, 0), BFLOAT16, heads(dim=36), MASK, "math"),
    ((8, 9), BFLOAT16, heads(dim=224), AttentionOptions(), "efficient"),
    ((8, 9), BFLOAT16, heads(dim=256), AttentionOptions(), "flash"),
    ((8, 9), BFLOAT16, heads(dim=256), AttentionOptions(p=0.1), "efficient"),
    ((8, 0), BFLOAT16, heads(dim=264), AttentionOptions(), "efficient"),
]


def on(capability, torch):
    """A step on a card of that capability."""
    s = TrainingStep.__new__(TrainingStep)
    s.m, s.torch, s.transformers = Machine(Heap(None)), torch, (5, 23)
    s.m.chip = Chip(capability, 108)
    return s


def chosen(s, q, h, how):
    return kernels.first(h.shape(q.dtype), call_of(s, h, how), s.m.chip, s.torch)


@all_of(("capability", "dtype", "h", "how", "kernel"), CHOICES)
def test_the_first_kernel_that_can(capability, dtype, h, how, kernel):
    s = on(capability, (2, 13))
    q = Computed((1, 64, 8, h.key_dim), dtype, None)
    assert chosen(s, q, h, how) == kernel


def test_before_torch_2_10_cudnn_is_not_the_first():
    s = on((9, 0), (2, 9))
    assert (
        chosen(s, Computed((1, 64, 8, 64), BFLOAT16, None), heads(), AttentionOptions()) == "flash"
    )


def peak(found):
    return max(p.allocated for p in found.moments.values())


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.sampled_from(("llama", "gemma2", "gpt2")), st.integers(1, 6), st.integers(1, 3))
def test_more_tokens_never_take_less(kind, length, batch):
    smaller = trained(kind, 1, seq_len=64 * length, batch_size=batch)
    assert peak(trained(kind, 1, seq_len=64 * (length + 1), batch_size=batch)) >= peak(smaller)
    assert peak(trained(kind, 1, seq_len=64 * length, batch_size=batch + 1)) >= peak(smaller)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text", "gpt2", "phi3", "cohere"])
def test_checkpointing_never_takes_more_than_a_layer_besides(kind):
    more = {"pad_token_id": 0} if kind == "phi3" else {}
    without, with_it = (trained(kind, 4, **more, checkpointing=c) for c in ("none", "full"))
    assert with_it.saved < without.saved
    assert peak(with_it) <= peak(without) + of_a_layer(kind, **more)


def test_an_unknown_class_is_read_as_llamas_and_said():
    assert (
        facts("llama").training.net == facts("qwen3").training.net
        and not trained("llama").program.said
    )
    found = trained("smolvlm")
    assert "modules of Llama's" in found.program.said


def test_an_unknown_class_of_other_modules_is_read_by_its_parameters():
    found = trained("xglm", d_model=64, attention_heads=4, ffn_dim=128, num_layers=2)
    assert "we have no program of this class" in found.program.said


def test_a_bias_of_many_rows_is_summed_through_memory():
    """8,192 rows of 768 on an A100: 128 blocks of 32 threads, 4 columns each, and flags."""
    m = Machine(Heap())
    over_rows(m, 8192, 768)
    assert m.heap.phase().live == {"temporaries": 48 * 2**20 + 4 * 6}
    over_rows(m, 200, 768)
    assert m.heap.phase().live == {}
