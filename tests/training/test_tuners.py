"""PEFT's methods beside LoRA: how many numbers each trains, what is refused, what costs most."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.training.tuners import divisor, near_root
from weighbridge.workload.train import TUNERS

EVERY = {"lora_targets": "all-linear"}


def trained(model, **settings):
    report = weighbridge.train(model, **{"seq_len": 64, **settings})
    return report.derived["trainable_parameters"]


# of llama-3.1-8b, by PEFT 0.21 (tests/torch/test_training_tuners.py), and the rank of each of
# AdaLoRA's adapters, which is trained on a base in 16 bits
COUNTED = [
    ("adalora", {}, 5_112_576 + 2 * 32),
    ("adalora", EVERY, 31_459_968 + 7 * 32),
    ("ia3", {}, 524_288),
    ("ia3", EVERY, 1_703_936),
    ("loha", {}, 6_815_744),
    ("loha", EVERY, 41_943_040),
    ("lokr", {}, 253_952),
    ("lokr", EVERY, 1_343_488),
    ("fourierft", {}, 64_000),
    ("fourierft", EVERY, 224_000),
    ("fourierft", {"n_frequency": 3000}, 192_000),
    ("vera", {}, 180_224),
    ("vera", EVERY, 1_433_600),
    ("boft", {}, 1_212_416),
    ("boft", EVERY, 6_356_992),
    ("boft", {"boft_block_size": 32}, 64 * 128 * 32 * 32 + 32 * (4096 + 1024)),
    ("oft", {}, 4_063_232),
    ("oft", EVERY, 19_300_352),
    ("miss", {}, 10_485_760),
    ("miss", EVERY, 88_080_384),
    ("randlora", {}, 17_989_632),
    ("randlora", EVERY, 86_704_128),
    ("shira", {}, 13_631_488),
    ("shira", EVERY, 83_886_080),
    ("prompt-tuning", {"virtual_tokens": 8}, 8 * 4096),
    ("p-tuning", {"virtual_tokens": 8}, 8 * 4096 + 3 * (4096 * 4096 + 4096)),
    ("prefix-tuning", {"virtual_tokens": 8}, 8 * 32 * 2 * 8 * 128),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "asked", "expected"), COUNTED)
def test_what_is_trained(method, asked, expected):
    assert trained("llama-3.1-8b", method=method, **asked) == expected


def test_every_method_is_counted():
    assert {method for method, *_ in COUNTED} == TUNERS.keys()


def test_a_linear_has_as_many_numbers_as_fourierft_trains():
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 16,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 64,
    }
    with pytest.raises(UsageError, match="q_proj has fewer than the 1,000 numbers that PEFT"):
        weighbridge.train(config, seq_len=64, method="fourierft")


@pytest.mark.parametrize(
    ("side", "factors"), [(256, (16, 16)), (128, (8, 16)), (127, (1, 127)), (11008, (86, 128))]
)
def test_factors_of_lokr_are_near_the_root(side, factors):
    assert near_root(side) == factors


@all_of(
    ("side", "near", "block"),
    [(4096, 32, 32), (704, 24, 22), (704, 30, 32), (100, 3, 2), (8, 9, 8)],
)
def test_a_block_of_oft_divides_the_inputs(side, near, block):
    """Take the nearest divisor, of two that are as near the smaller."""
    assert divisor(side, near) == block


REFUSED = [
    ({"method": "randlora", "quantization": "nf4"}, "gives float32, which is not modelled"),
    ({"method": "fourierft", "quantization": "nf4"}, "what its layer keeps there is not modelled"),
    ({"method": "boft", "lora_r": 8}, "--lora-r: BOFT has no rank"),
    ({"method": "boft", "n_frequency": 8}, "--n-frequency is of fourierft: boft trains none"),
    ({"method": "lora", "boft_block_size": 8}, "--boft-block-size is of boft: lora trains none"),
    ({"boft_block_size": 8}, "--boft-block-size"),
    ({"method": "boft", "quantization": "nf4"}, "what its layer keeps there is not modelled"),
    ({"method": "fourierft", "lora_r": 8}, "--lora-r: FourierFT has no rank"),
    ({"method": "loha", "quantization": "nf4"}, "loha on a base in nf4: PEFT has no such layer"),
    ({"method": "ia3", "lora_r": 8}, "--lora-r: IA3 has no rank"),
    ({"method": "shira", "lora_dropout": 0.1}, "--lora-dropout: SHiRA has none"),
    ({"method": "shira", "quantization": "nf4"}, "what its layer keeps there is not modelled"),
    ({"method": "shira", "lora_r": 512}, "v_proj, which has 1,048,576; take a smaller rank"),
    ({"method": "lokr", "lora_dropout": 0.1}, "--lora-dropout: LoKr has none"),
    ({"method": "vera", "framework": "torchtune"}, "torchtune has none of PEFT's methods"),
    ({"method": "vera", "framework": "unsloth"}, "unsloth has none of PEFT's methods"),
    ({"method": "vera", "shard": "fsdp2", "gpu": "2xh100"}, "on one device and with --shard ddp"),
]


@pytest.mark.parametrize(("asked", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_has_no_layer_or_no_rule_is_refused_in_a_line(asked, line):
    with pytest.raises(UsageError, match=line):
        weighbridge.train("llama-3.2-1b", seq_len=64, **asked)


@pytest.mark.parametrize("method", ["boft", "loha", "lokr", "oft", "miss", "shira"])
def test_a_conv1d_is_refused_where_peft_has_no_layer_for_it(method):
    with pytest.raises(UsageError, match="c_attn is a Conv1D, for which PEFT has no such layer"):
        weighbridge.train("gpt2", seq_len=64, method=method)


def test_ia3_needs_to_know_what_ends_a_feed_forward():
    with pytest.raises(UsageError, match="PEFT knows no feed-forward of phi3"):
        weighbridge.train("phi-3-mini-4k", seq_len=64, method="ia3")


def test_blocks_of_boft_divide_the_inputs():
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 18,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "vocab_size": 64,
    }
    with pytest.raises(UsageError, match="q_proj has 18 inputs, and PEFT's blocks of 4 "):
        weighbridge.train(config, seq_len=64, method="boft")


@pytest.mark.slow
def test_shira_copies_each_weight_and_keeps_its_places():
    """Each of 16 q_proj, 2,048 to 2,048, has 32 x 4,096 numbers in 32 bits and two places of 32
    bits for each. A forward keeps the numbers and two places of 64 bits, and the weight again,
    but of the first: what it reads has no gradient."""
    asked = {"seq_len": 1, "lora_targets": "q_proj", "checkpointing": "none"}
    found = weighbridge.train("llama-3.2-1b", method="shira", **asked)
    numbers, weights = 16 * 32 * 4096, 15 * 2048**2
    load = {c.name: c.bytes.expected for c in found.devices[0].phases[0].components}
    assert load["buffers"] == 8 * numbers + 256  # of the rotary embedding
    kept = found.derived["saved_activation_bytes"]
    assert kept == pytest.approx(2 * weights + (4 + 16) * numbers, rel=0.02)


@pytest.mark.slow
def test_boft_has_a_matrix_of_the_inputs_beside_every_linear():
    """Each of 16 q_proj has 4 x 2,048 x 2,048 bytes beside it, and keeps three such in 16 bits."""
    asked = {"seq_len": 64, "lora_targets": "q_proj", "checkpointing": "none", "precision": "bf16"}
    found = weighbridge.train("llama-3.2-1b", method="boft", **asked)
    plain = weighbridge.train("llama-3.2-1b", method="ia3", **asked)
    (load, ours), (before, theirs) = (
        [
            sum(c.bytes.expected for c in phase.components if c.name in names)
            for phase, names in (
                (report.devices[0].phases[0], ("buffers",)),
                (report.devices[0].phases[1], ("activations",)),
            )
        ]
        for report in (found, plain)
    )
    assert load - before == 16 * 4 * 2048**2
    assert ours - theirs == pytest.approx(16 * 3 * 2 * 2048**2, rel=0.05)


@pytest.mark.slow
def test_a_dense_matrix_is_kept_by_every_linear_but_under_checkpoints():
    """LoHa keeps, of each linear, a product as large as the weight: under autocast in 16 bits."""
    plain = {"seq_len": 64, "lora_targets": "q_proj", "checkpointing": "none"}
    kept = {
        method: weighbridge.train("llama-3.2-1b", method=method, **plain).derived
        for method in ("lora", "loha")
    }
    found = kept["loha"]["saved_activation_bytes"] - kept["lora"]["saved_activation_bytes"]
    assert 0.9 < found / (16 * 2048 * 2048 * 2) < 1.1
