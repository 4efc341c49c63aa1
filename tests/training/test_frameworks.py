"""What frameworks do by themselves, against figures that they published, and laws."""

import pytest

import weighbridge
from tests.ask import usual
from tests.tiny import LLAMA, config
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB
from weighbridge.training.forward.losses import LOSSES
from weighbridge.training.forward.nets import LOOPS
from weighbridge.training.frameworks import FRAMEWORKS

GB = 10**9
QV = ("query", "value")
ALL = (*QV, "key", "projection", "mlp", "head")
LITGPT = {"framework": "litgpt", "method": "lora", "gpu": "a10g", "lora_dropout": 0.05}
PHI = {**LITGPT, "gpu": "a100-40gb", "seq_len": 1044, "lora_r": 8, "lora_targets": QV}
TUNE = {
    "framework": "torchtune",
    "batch_size": 2,
    "seq_len": 4096,
    "gpu": "a100-80gb",
    "torch_version": "2.5",
}


report = usual("train", None, offline=True)


def peak(found, level="allocated"):
    return found.devices[0].peak(level).expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "r", "targets", "trainable"),
    [
        ("falcon-7b", 32, QV, 14_024_704),  # as litgpt prints them
        ("phi-1.5", 8, QV, 1_572_864),
        ("gemma-2b", 8, ALL, 11_870_208),
        ("mistral-7b-v0.1", 32, QV, 13_631_488),
    ],
)
def test_litgpts_adapters_are_on_one_linear_of_three(model, r, targets, trainable):
    found = report(model, **{**LITGPT, "lora_r": r, "lora_targets": targets, "seq_len": 16})
    assert found.derived["trainable_parameters"] == trainable


@pytest.mark.slow
def test_litgpt_holds_the_embedding_and_the_head_apart():
    """Gemma's are one matrix for others: 256,000 x 2,048 in 16 bits more."""
    theirs = report("gemma-2b", **LITGPT, seq_len=16, lora_targets=QV)
    weights = [
        next(c for c in found.devices[0].phases[0].components if c.name == "weights")
        for found in (theirs, report("gemma-2b", method="lora", seq_len=16))
    ]
    assert weights[0].bytes.expected - weights[1].bytes.expected == 256_000 * 2048 * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "form", "printed"),
    [(1, None, 4.82), (2, None, 6.76), (1, "nf4", 3.78), (1, "nf4-dq", 3.72)],
)
def test_litgpts_table_to_its_last_digit(batch, form, printed):
    """tutorials/resource-tables.md, whose longest sample is the first: phi-1.5, LoRA."""
    packed = {"quantization": form, "optimizer": "paged_adamw_32bit"} if form else {}
    found = report("phi-1.5", **PHI, **packed, batch_size=batch, framework_version="0.1")
    assert found.derived["first_step_peak_bytes"] / GB == pytest.approx(printed, abs=0.0051)


@pytest.mark.slow
def test_the_loop_that_holds_its_loss_holds_inputs_of_packed_linears_twice():
    """bitsandbytes 0.42 keeps the input on its function's context, which lives as long as the
    graph, and litgpt's variable holds that until the next loss: of a second micro-batch those of
    the first. 24 layers: what fc and proj of each part read."""
    packed = {"quantization": "nf4", "optimizer": "paged_adamw_32bit", "batch_size": 1}
    old, new = (
        report("phi-1.5", **PHI, **packed, framework_version=v, gradient_accumulation=2)
        for v in ("0.1", "0.5")
    )
    read = 24 * 1044 * 2 * (2048 + 2048 + 8192)  # the norm's output, attention's, gelu's
    grown = peak(old) - peak(new)
    assert grown == pytest.approx(2 * read, rel=0.15)


def test_litgpt_has_its_own_names():
    with pytest.raises(UsageError, match="q_proj"):
        report("phi-1.5", **{**PHI, "lora_targets": ("q_proj",)})


def test_every_frameworks_loss_is_known():
    for f in FRAMEWORKS.values():
        for name in (f.loss, *f.losses.values()):
            assert name in LOSSES or name in LOOPS, f.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        ({"loss": "standard"}, 60.0),
        ({"compile": True}, 42.9),
        ({"compile": True, "checkpointing": "full"}, 24.9),
        ({"compile": True, "checkpointing": "full", "optimizer_in_backward": True}, 23.1),
        ({"compile": True, "checkpointing": "offload", "optimizer_in_backward": True}, 21.8),
    ],
)
def test_torchtunes_table_of_flags(settings, printed):
    """README.md: Llama 3.2 3B, packed to 4,096 tokens, bf16, one A100. What compiled layers save is
    the least certain of it; where they are computed again the figures are ours to the digit."""
    found = peak(report("llama-3.2-3b", **TUNE, **settings))
    again = "checkpointing" in settings
    assert found / GIB == pytest.approx(printed, rel=0.002 if again else 0.03)


@pytest.mark.slow
def test_an_offloaded_checkpoint_is_a_layers_input_less():
    """28 layers of 8,192 tokens x 3,072 in 16 bits, but for what one layer needs again."""
    kept, away = (
        peak(report("llama-3.2-3b", **TUNE, compile=True, checkpointing=how))
        for how in ("full", "offload")
    )
    assert kept >= away
    loss = [
        next(p for p in found.devices[0].phases if p.name == "loss").at("allocated").expected
        for found in (
            report("llama-3.2-3b", **TUNE, compile=True, checkpointing=how)
            for how in ("full", "offload")
        )
    ]
    assert loss[0] - loss[1] == pytest.approx(28 * 8192 * 3072 * 2, rel=1e-3)


@pytest.mark.slow
def test_torch_1_keeps_zeroed_gradients_and_inputs_of_softmax():
    """BERT in float32, which the Trainer's page of 2022 measured: a score matrix a layer."""
    settings = {"precision": "fp32", "batch_size": 1, "seq_len": 512, "attention": "eager"}
    old, middle, new = (
        report("bert-large-uncased", **settings, engine_version="4.20", torch_version=v)
        for v in ("1.10", "1.12", "2.0")
    )
    scores = 24 * 16 * 512 * 512 * 4
    forward = [
        next(p for p in found.devices[0].phases if p.name == "forward").at("allocated").expected
        for found in (old, middle, new)
    ]
    assert forward[0] - forward[1] == scores
    assert forward[1] - forward[2] == pytest.approx(4 * 335_174_458, rel=0.01)


@pytest.mark.slow
def test_older_torchs_take_more_or_less_for_a_step():
    """Adam's root and its denominator together in 2.0; one parameter at a time before."""
    settings = {"precision": "fp32", "seq_len": 16, "optimizer": "adamw_torch"}
    step = [
        next(p for p in found.devices[0].phases if p.name == "step").at("allocated").expected
        for found in (report("llama-3.2-1b", **settings, torch_version=v) for v in ("2.0", "2.1"))
    ]
    assert step[0] - step[1] == pytest.approx(4 * 1_235_814_400, rel=0.01)


TITAN = config("wide", num_hidden_layers=2, vocab_size=32000, max_position_embeddings=None)


def of_logits(version, **settings):
    """The most that logits and their loss take, in bytes of one token and output."""
    given = {"framework_version": version, "seq_len": 2048, "shard": "fsdp2", **settings}
    found = weighbridge.train(TITAN, framework="torchtitan", data_parallel_size=8, **given)
    most = max(
        sum(c.bytes.expected for c in p.components if c.name == "logits")
        for p in found.devices[0].phases
    )
    return most / (2048 * 32_000)


@pytest.mark.parametrize(
    ("version", "compiled", "each"),
    [
        ("2024-12-20", True, 12),  # logits in 16 bits, in float32, log_softmax, less what is gone
        ("2025-04-01", True, 12),
        ("2025-04-02", True, 4),  # logits and their gradient
        ("0.1", True, 4),  # of June 2025
        ("2025-04-02", False, 12),
        ("2026-04-26", True, 4),
        ("2026-04-27", True, 4 / 8),  # of one chunk, beside gradients in float32
        (None, True, 4 / 8),
    ],
)
def test_torchtitans_losses_by_date(version, compiled, each):
    beside = (4 * 2048 * 256 + (4 + 2) * 32_000 * 256) / (2048 * 32_000) if each < 1 else 0
    assert of_logits(version, compile=compiled) == pytest.approx(each + beside, rel=0.25)


def test_torchtitans_step_is_in_one_kernel_since_february_2025():
    used = [
        weighbridge.train(TITAN, framework="torchtitan", framework_version=v, seq_len=64).workload[
            "optimizer"
        ]
        for v in ("2025-02-23", "2025-02-24", None)
    ]
    assert used == ["adamw_torch", "adamw_torch_fused", "adamw_torch_fused"]


def test_a_version_that_no_rule_depends_on_is_said_to_change_nothing():
    for framework, said in (("axolotl", True), ("torchtitan", False), ("litgpt", False)):
        version = "2025-04-02" if framework == "torchtitan" else "0.4"
        found = weighbridge.train(TITAN, framework=framework, framework_version=version, seq_len=64)
        told = [w for w in found.warnings if "--framework-version changes nothing" in w]
        assert bool(told) == said, framework


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"torch_version": "2.15"}, ["torch 2.15: our rules are for releases up to 2.14"]),
        ({"torch_version": "2.14.1"}, []),
        ({"accelerate_version": "2.0"}, ["accelerate 2.0: our rules are for releases up to 1.15"]),
        ({"framework": "trl", "framework_version": "1.17"}, ["trl 1.17: our rules are for"]),
        ({"framework": "trl", "framework_version": "1.16"}, []),
        ({"framework": "torchtitan", "framework_version": "2026-08-31"}, []),
        (
            {"framework": "torchtitan", "framework_version": "2026-09-01"},
            ["torchtitan 2026.9.1: our rules are for releases up to 2026.8"],
        ),
        (
            {"shard": "zero2", "deepspeed_version": "0.20", "torch_version": "3.0"},
            ["torch 3.0: our rules are for releases up to 2.14", "DeepSpeed 0.20: our rules"],
        ),
    ],
)
def test_a_release_that_nobody_read_is_told(asked, told):
    found = weighbridge.train(TITAN, seq_len=64, **asked)
    lines = [line for line in found.warnings if "our rules are for releases up to" in line]
    assert len(lines) == bool(told)
    assert all(one in lines[0] for one in told)


def test_versions_of_torchtitan_are_dates():
    with pytest.raises(UsageError, match=r"are dates, .* its releases from 0\.1 to 0\.2\.2$"):
        weighbridge.train(TITAN, framework="torchtitan", framework_version="2.5", seq_len=64)


UNSLOTH = {"framework": "unsloth", "method": "qlora", "lora_r": 32, "optimizer": "adamw_8bit"}


@pytest.mark.slow
def test_unsloth_never_widens_the_base_and_keeps_inputs_on_the_host():
    told = weighbridge.train("llama-3.1-8b", framework="unsloth", method="qlora").workload
    assert (told["quantization"], told["kbit_upcast"], told["lora_r"]) == ("nf4-dq", "none", 16)
    assert (told["checkpointing"], told["loss"]) == ("offload", "unsloth")
    assert len(told["lora_targets"]) == 7


@pytest.mark.slow
def test_a_loss_of_unsloths_brings_no_upcast_with_it():
    usual = {"method": "qlora", "framework": "trainer"}
    found = [
        weighbridge.train("llama-3.1-8b", **usual, **more).workload["kbit_upcast"]
        for more in ({}, {"loss": "unsloth"}, {"loss": "unsloth", "kbit_upcast": "peft"})
    ]
    assert found == ["peft", "none", "peft"]


@pytest.mark.slow
def test_what_unsloths_layers_keep_without_checkpoints():
    """Bytes of a token of a 7B. In 16 bits inputs and outputs of two norms, queries, keys, values, what
    attention gives, gate and up, and nothing that the last linear reads. In float32 two inverse
    roots, and a sum for each head."""
    usual = {"framework": "unsloth", "method": "lora", "checkpointing": "none"}
    one, two = (
        weighbridge.train("llama-2-7b", seq_len=n, **usual).derived["saved_activation_bytes"]
        for n in (1024, 2048)
    )
    of_layer = 2 * (8 * 4096 + 2 * 11008) + 4 * (2 + 32)
    assert (two - one) / 1024 == pytest.approx(32 * of_layer, rel=0.01)


def kept(tokens=1024, model="llama-2-7b", **settings):
    """Bytes of a token that one layer keeps."""
    usual = {"framework": "unsloth", "checkpointing": "none", "lora_r": 8}
    one, two = (
        weighbridge.train(model, seq_len=n, **usual, **settings).derived["saved_activation_bytes"]
        for n in (tokens, 2 * tokens)
    )
    return (two - one) / tokens / 32


@pytest.mark.slow
def test_unsloth_fuses_linears_that_all_have_adapters_without_bias_or_dora():
    """Else PEFT's run, and transformers' feed-forward: silu(gate) is kept, too, in 16 bits, and
    what each adapter reads."""
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    fused = kept(method="lora", lora_targets=every)
    assert kept(method="lora", lora_targets=every[:-1]) > fused + 2 * 11008
    without_keys = (every[0], *every[2:])
    assert kept(method="lora", lora_targets=without_keys) > fused + 2 * 4096
    assert kept(method="dora", lora_targets=every) > fused + 2 * (2 * 11008 + 2 * 4096)


def test_a_linear_with_a_bias_is_not_fused():
    from weighbridge.training.forward.adapters import fuses

    names = [f"a.{x}" for x in ("q_proj", "k_proj", "v_proj", "o_proj")]
    assert all(fuses(x, names, {}) for x in names)
    assert not any(fuses(x, names, {"a.k_proj.bias": None}) for x in names[:3])
    assert fuses("a.o_proj", names, {"a.k_proj.bias": None})
    assert not fuses("a.o_proj", names, {"a.o_proj.bias": None})
    assert not fuses("lm_head", ["lm_head"], {})


# Contexts that fit, as unsloth's README of December 2024 has them (batch 1, rank 32)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "tokens", "card"),
    [
        ("llama-3.1-8b", 2_972, "8GB"),
        ("llama-3.1-8b", 21_848, "12GB"),
        ("llama-3.1-8b", 40_724, "16GB"),
        ("llama-3.1-8b", 78_475, "24GB"),
        ("llama-3.3-70b", 12_106, "48GB"),
        ("llama-3.3-70b", 89_389, "80GB"),
    ],
)
def test_lengths_that_unsloth_fits_are_not_refused(model, tokens, card):
    """Copies of that month had all linears in 4 bits: what later ones leave is not in the low
    end."""
    size = f"{card[:-2]}GiB"
    report = weighbridge.train(
        model, seq_len=tokens, attention="flash", gpu="a100-80gb", gpu_memory=size, **UNSLOTH
    )
    peak = report.devices[0].peak("driver")
    assert report.verdict.fits != "no"
    assert peak.low < int(card[:-2]) * 2**30 < 1.35 * peak.high


def test_unsloths_kernels_are_of_adapters():
    with pytest.raises(UsageError, match="full"):
        weighbridge.train("llama-2-7b", framework="unsloth")


@pytest.mark.slow
def test_other_classes_under_unsloth_are_read_as_transformers_runs_them():
    report = weighbridge.train("gemma-2-9b", framework="unsloth", method="qlora")
    assert any("unsloth compiles" in w for w in report.warnings)


@pytest.mark.parametrize(
    ("method", "asked", "checkpointing"),
    [
        ("lora", None, "full"),
        ("qlora", None, "full"),
        ("lora", "none", "none"),
        ("full", None, "none"),
    ],
)
def test_torchtunes_adapters_are_trained_as_its_own_files_have_it(method, asked, checkpointing):
    """recipes/configs/llama3_1/8B_lora_single_device.yaml and its like, of 0.6.1."""
    found = weighbridge.train(
        LLAMA, framework="torchtune", method=method, checkpointing=asked, seq_len=64, offline=True
    )
    assert found.workload["checkpointing"] == checkpointing
    files = ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj")
    assert tuple(found.workload["lora_targets"] or ()) == (() if method == "full" else files)


@pytest.mark.slow
def test_torchtunes_recipe_of_an_8b_fits_a_4090():
    found = weighbridge.train(
        "llama-3.1-8b",
        framework="torchtune",
        method="lora",
        batch_size=2,
        gpu="4090",
        offline=True,
    )
    assert found.verdict.fits != "no"  # published as working; one source narrows no interval
    assert found.peak.expected < 22 * 2**30
