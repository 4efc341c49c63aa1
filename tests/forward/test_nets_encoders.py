"""Programs of encoders, encoder-decoders and state spaces, without torch: what one more layer
saves, worked by hand; laws; edges.

Bytes of a token and a layer in bfloat16 with flash attention: D hidden, F feed-forward, N heads.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torch.training_oracle import settled
from weighbridge.base.errors import UsageError
from weighbridge.models.arch.model_types import facts
from weighbridge.training.forward.nets import program
from weighbridge.training.run import run

D, F, N = 128, 512, 4
TOKENS = 512
SMALL = {"hidden_size": D, "intermediate_size": F, "num_attention_heads": N}
P, STATES, HEADS = 32, 16, 8  # of Mamba-2: head dimension, states, heads
CONFIGS = {
    "bert": {**SMALL, "vocab_size": 512},
    "vit": {**SMALL, "image_size": 128, "patch_size": 8},
    "t5": {"d_model": D, "d_ff": F, "d_kv": D // N, "num_heads": N, "vocab_size": 512},
    "mamba2": {
        "hidden_size": D,
        "num_heads": HEADS,
        "head_dim": P,
        "state_size": STATES,
        "n_groups": 1,
        "chunk_size": 64,
        "vocab_size": 512,
    },
}
CLASSES = {
    "bert": "BertForMaskedLM",
    "vit": "ViTForImageClassification",
    "t5": "T5ForConditionalGeneration",
    "mamba2": "Mamba2ForCausalLM",
}
SETTINGS = ("precision", "seq_len", "batch_size", "checkpointing", "attention", "padded", "loss")


def trained(kind, layers=1, **more):
    count = "num_layers" if kind == "t5" else "num_hidden_layers"
    own = {"model_type": kind, "architectures": [CLASSES[kind]], count: layers}
    said = {"precision": "bf16", "framework": "plain"}
    if kind != "vit":
        said["seq_len"] = TOKENS
    config = CONFIGS[kind] | own
    for key, value in more.items():
        (said if key in SETTINGS else config)[key] = value
    return run(settled(config, **said))


def of_a_layer(kind, **more):
    return trained(kind, 2, **more).saved - trained(kind, 1, **more).saved


FLASH = 16 + 8  # the two numbers of dropout


def test_a_layer_of_bert():
    """Queries, keys, values and what is attended to, 8 D; the inputs of both norms and what they
    give, 8 D, 16; both masks, 2 D; what goes into and comes out of GELU, 4 F."""
    assert of_a_layer("bert") == TOKENS * (18 * D + 4 * F + 4 * N + 16) + FLASH


def test_a_layer_of_bert_without_dropout_has_no_masks():
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    assert of_a_layer("bert") - of_a_layer("bert", **rates) == TOKENS * 2 * D


def test_a_layer_of_vit():
    """Positions are those of 16 x 16 patches and of the class; the rows of flash attention's sums
    are as many."""
    positions = 16 * 16 + 1
    assert of_a_layer("vit") == positions * (16 * D + 4 * F + 4 * N + 16) + FLASH


def test_of_t5_the_biases_are_one_for_all_sequences():
    """Each layer's copy of what is looked up, for the encoder and the decoder, and which keys the
    decoder's queries see; of three attentions the two numbers of dropout."""
    both = 2 * of_a_layer("t5") - of_a_layer("t5", batch_size=2)
    assert both == 2 * 2 * N * TOKENS**2 + TOKENS**2 + 3 * 16


def test_of_mamba2_longer_chunks_save_longer_rows():
    """Three matrices of scores, masks of half of them twice, and the states between chunks: those
    before each chunk, twice, one more of the first, and their decays."""
    assert of_a_layer("mamba2", chunk_size=128) - of_a_layer("mamba2") == _scan(128) - _scan(64)


def _scan(chunk):
    chunks = TOKENS // chunk
    inside = 3 * 4 * TOKENS * chunk * HEADS + 2 * chunk**2
    states = 4 * (2 * chunks + 1) * HEADS * P * STATES
    return inside + states + (4 * HEADS + 2) * (chunks + 1) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_checkpointing_never_takes_more_than_a_layer_besides(kind):
    without, with_it = (trained(kind, 3, checkpointing=c) for c in ("none", "full"))
    assert with_it.saved < without.saved
    assert peak(with_it) <= peak(without) + of_a_layer(kind)


def peak(found):
    return max(p.allocated for p in found.moments.values())


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(CONFIGS)), st.integers(1, 4), st.integers(1, 3))
def test_more_never_takes_less(kind, length, batch):
    more = {} if kind == "vit" else {"seq_len": 64 * length}
    longer = {} if kind == "vit" else {"seq_len": 64 * (length + 1)}
    smaller = trained(kind, batch_size=batch, **more)
    assert peak(trained(kind, batch_size=batch + 1, **more)) >= peak(smaller)
    assert peak(trained(kind, batch_size=batch, **longer)) >= peak(smaller)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_classes_are_known(kind):
    assert facts(kind).training.net


@pytest.mark.parametrize("kind", ["bert", "vit", "t5"])
def test_kernels_of_causal_losses_are_refused_elsewhere(kind):
    with pytest.raises(UsageError, match="does not predict the next token"):
        program(kind, [], [], "liger")
