"""The worked figures of the field, each with its own phase."""

import pytest

import weighbridge

GB = 10**9
SEVEN = 6_738_415_616  # parameters of Llama-2-7B
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 64,
    "n_layer": 1,
    "n_head": 4,
    "n_positions": 256,
    "vocab_size": 50_000,
    "torch_dtype": "bfloat16",
}


def phases(report):
    return {p.name: p for p in report.devices[0].phases}


def at(report, phase, level="allocated"):
    return phases(report)[phase].at(level).expected / GB


def part(report, phase, name):
    return sum(c.bytes.expected for c in phases(report)[phase].components if c.name == name)


@pytest.fixture(scope="module")
def seven():
    """Few tokens: what is told is of weights, gradients and states."""
    named = {"precision": "fp32", "optimizer": "adamw_torch"}
    return weighbridge.train("llama-2-7b", seq_len=16, **named)


@pytest.mark.slow
def test_a_7b_in_float32(seven):
    """28 GB of weights, 112 with gradients and two moments, 140 in the middle of a foreach step:
    figures of blogs and of the Trainer's documentation, for 7.0 billion parameters."""
    each = SEVEN / 7e9
    assert at(seven, "load") == pytest.approx(28 * each, rel=0.001)
    assert at(seven, "backward") == pytest.approx(112 * each, rel=0.01)
    assert at(seven, "step") == pytest.approx(140 * each, rel=0.001)
    assert seven.devices[0].peak_phase == "step"


@pytest.mark.slow
def test_a_fused_step_takes_nothing_more():
    report = weighbridge.train(
        "llama-2-7b", precision="fp32", seq_len=16, optimizer="adamw_torch_fused"
    )
    assert at(report, "step") == pytest.approx(16 * SEVEN / GB, rel=0.005)


@pytest.mark.slow
def test_pure_bfloat16_takes_half(seven):
    named = {"precision": "bf16", "optimizer": "adamw_torch"}
    half = weighbridge.train("llama-2-7b", seq_len=16, **named)
    for phase in ("load", "step"):
        assert at(half, phase) == pytest.approx(at(seven, phase) / 2, rel=0.005)


@pytest.mark.slow
def test_mixed_precision_has_the_states_of_float32_and_copies_of_weights():
    """16 bytes a parameter, and 2 more from forward to the layer's backward: never 18 at the
    step."""
    mixed = weighbridge.train(
        "llama-2-7b", precision="bf16-mixed", seq_len=16, optimizer="adamw_torch_fused"
    )
    linears = SEVEN - 2 * 32000 * 4096 - 65 * 4096  # embedding and norms are not cast
    head = 32000 * 4096
    copies = 2 * (linears + head) / GB
    assert at(mixed, "step") == pytest.approx(16 * SEVEN / GB, rel=0.005)
    assert at(mixed, "forward") == pytest.approx(12 * SEVEN / GB + 2 * linears / GB, rel=0.01)
    assert part(mixed, "loss", "activations") / GB == pytest.approx(copies, rel=0.02)


@pytest.mark.slow
def test_llama_recipes_quickstart_in_int8():
    """One A100-40GB, LoRA (r 8, q_proj and v_proj), int8, checkpointing, batch 2: its users saw
    14 GB allocated. It calls PEFT's prepare_model_for_int8_training, so that hidden states are in
    float32. Attention was written out in transformers of that time, and checkpoints reentrant, so
    that the inputs which LLM.int8() keeps on its context go with each layer."""
    report = weighbridge.train(
        "llama-2-7b",
        method="lora",
        quantization="bnb-int8",
        batch_size=2,
        seq_len=2048,
        checkpointing="full",
        precision="fp16-mixed",
        engine_version="4.31",
        gpu="a100-40gb",
    )
    assert report.derived["trainable_parameters"] == 4_194_304
    assert report.devices[0].peak("allocated").expected / GB == pytest.approx(14, rel=0.02)
    assert report.verdict.fits == "yes"


@pytest.mark.slow
def test_llama_recipes_in_float16_without_checkpointing_fills_the_card():
    """The same at batch 1: 40 GB are not enough, for the scores of 32 layers."""
    report = weighbridge.train(
        "llama-2-7b",
        method="lora",
        batch_size=1,
        seq_len=2048,
        precision="fp16",
        engine_version="4.31",
        gpu="a100-40gb",
    )
    assert report.verdict.fits != "yes"
    assert part(report, "forward", "activations") > 30 * GB
    full = weighbridge.train("llama-2-7b", precision="fp16", seq_len=2048, engine_version="4.31")
    assert full.peak.expected > 80 * GB  # what training all of it would have needed


@pytest.mark.slow
def test_bitsandbytes_puts_linears_in_place_of_conv1d():
    """The other layout is as wide outside as Conv1D's; adapters stand around all of them."""
    found = {
        method: next(
            c.bytes.expected
            for p in weighbridge.train(
                "gpt2", method=method, framework="trainer", lora_targets="all-linear"
            )
            .devices[0]
            .phases
            if p.name == "loss"
            for c in p.components
            if c.name == "activations"
        )
        for method in ("lora", "qlora")
    }
    assert found["lora"] < found["qlora"] < 1.25 * found["lora"]


@pytest.mark.parametrize(
    ("config", "release", "copies"),
    [
        (GPT2, "4.45", 3),
        (GPT2, "4.48", 3),
        (GPT2, "4.48.3", 7),
        ({**GPT2, "model_type": "gpt_bigcode"}, "4.48.1", 3),
        ({**GPT2, "model_type": "gpt_bigcode"}, "4.48.3", 7),
        ({**GPT2, "model_type": "gpt_bigcode"}, "4.49", 6),
    ],
)
def test_classes_of_gpt2s_time_take_the_loss_of_logits_as_they_are(config, release, copies):
    """In 16 bits: the logits, their copy without the last position, and their softmax; since 4.48.3
    logits that are made float32, copied up to 4.48 (loss/loss_utils.py). Once more where somebody
    may hold them: that is assumed, of the plain loss alone."""
    found = weighbridge.train(
        config,
        offline=True,
        framework="trainer",
        precision="bf16",
        batch_size=2,
        seq_len=256,
        checkpointing="full",
        engine_version=release,
    )
    one = 2 * 512 * GPT2["vocab_size"]
    held = [
        c.bytes
        for c in phases(found)["loss"].components
        if c.name == "logits" and c.basis == "assumed"
    ]
    assert held == ([(0, one, one)] if copies == 3 else [])
    followed = part(found, "loss", "logits") - len(held) * one
    assert followed == pytest.approx(copies * one, rel=0.03)
