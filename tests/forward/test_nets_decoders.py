"""Programs of decoders of other shapes, without torch: what one more token saves, and how cheaply a
loop over tokens is reckoned."""

import pytest

import weighbridge
from tests.torch.training_oracle import settled, stepped
from weighbridge.memory.components.activations import Heap
from weighbridge.training.run import run

MAMBA = {"hidden_size": 128, "state_size": 16, "vocab_size": 512, "conv_kernel": 4, "expand": 2}
FALCON = {"hidden_size": 256, "num_attention_heads": 4, "vocab_size": 512, "bias": False}
NEO = {"hidden_size": 256, "num_heads": 4, "vocab_size": 512, "max_position_embeddings": 1024}
LLAMA_4 = {
    "hidden_size": 128,
    "intermediate_size": 64,
    "intermediate_size_mlp": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "vocab_size": 512,
}
INNER, STATES, RANK = 256, 16, 8


def saved(kind, config, layers, length, **more):
    count = "num_layers" if kind == "gpt_neo" else "num_hidden_layers"
    raw = {"model_type": kind, count: layers, **config}
    said = {"precision": "bf16", "framework": "plain", "seq_len": length, **more}
    return run(settled(raw, **said)).saved


def of_a_token(kind, config, **more):
    """Bytes that a token saves in one more layer, far from the first."""
    long, short = (
        saved(kind, config, 2, n, **more) - saved(kind, config, 1, n, **more) for n in (512, 256)
    )
    return (long - short) / 256


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mamba", "falcon_mamba"])
def test_a_token_of_mamba_saves_its_state_in_both_dtypes(kind):
    """Beside decays, steps and states in float32, all of the inner size times the states."""
    config = MAMBA | {"time_step_rank": RANK}
    states = (4 + 4 + 4 + 2) * INNER * STATES
    assert states < of_a_token(kind, config) < 1.4 * states


@pytest.mark.slow
def test_a_scan_under_checkpoints_keeps_no_states():
    config = MAMBA | {"time_step_rank": RANK}
    assert of_a_token("mamba", config, checkpointing="full") < 16 * MAMBA["hidden_size"]


@pytest.mark.slow
def test_one_head_of_keys_leaves_falcon_the_math_kernel():
    """Scores of all tokens are saved: more a token, the more there are."""
    new = {"new_decoder_architecture": True, "num_kv_heads": 2}
    single, grouped = (FALCON | more for more in ({"multi_query": True}, new))
    assert of_a_token("falcon", single) > 2 * of_a_token("falcon", grouped)


def test_gpt_neo_writes_its_scores_out():
    assert of_a_token("gpt_neo", NEO) > 4 * NEO["num_heads"] * 512


@pytest.mark.parametrize(("count", "nbytes"), [(3, 100), (700, 10_000), (300, 3 << 20)])
def test_many_tensors_are_allocated_as_one_by_one(count, nbytes):
    alike, single = Heap(), Heap()
    held = alike.many(count, nbytes)
    for _ in range(count):
        single.take(nbytes)
    together, apart = alike.phase(), single.phase()
    assert together.live == apart.live and together.allocated == apart.allocated
    assert together.reserved == pytest.approx(apart.reserved, rel=0.25)
    alike.drop(held)
    assert alike.phase() and alike.phase().allocated == 0


@pytest.mark.slow
def test_dora_has_a_norm_for_each_output_of_gpt2():
    """The weights of linears lie the other way round. By PEFT: over all linears of its 12 layers
    r (in + out) numbers and one for each output."""
    report = weighbridge.train("gpt2", method="dora", lora_r=8, lora_targets=("all-linear",))
    sides = ((768, 2304), (768, 768), (768, 3072), (3072, 768))
    assert report.derived["trainable_parameters"] == 12 * sum(8 * (i + o) + o for i, o in sides)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turns", "scales"), [([1, 1, 1, 1], 0), ([1, 1, 1, 0], 1), ([0, 0, 1, 0], 3)]
)
def test_layers_of_llama_4_without_positions_have_a_scale_a_token(turns, scales):
    """attn_temperature_tuning of modeling_llama4.py: [1, 91, 1, 1] in float32, one for all
    sequences, which the product with the queries saves."""
    raw = {"model_type": "llama4_text", "num_hidden_layers": 4, "no_rope_layers": turns, **LLAMA_4}
    found = stepped(raw, precision="bf16", seq_len=91, batch_size=2).saved
    assert found[4 * 91] == scales
