"""Unsloth: what its loader has in 4 bits, and how its layers, attention and loss run. Measured
figures are those of unslothai/notebooks bdda2efc (nb/*.ipynb), torch's peak reserved."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.ask import usual
from tests.cases import all_of, each
from tests.tiny import LLAMA
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.training import unsloth
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.packed import Stack4

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SPARSE = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "torch_dtype": "bfloat16",
}
OTHER = {**SPARSE, "model_type": "ernie4_5_moe", "architectures": ["Ernie4_5_MoeForCausalLM"]}
SINKS = {
    **LLAMA,
    "model_type": "gpt_oss",
    "architectures": ["GptOssForCausalLM"],
    "head_dim": 16,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "torch_dtype": "bfloat16",
}
GEMMA = {
    **LLAMA,
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "head_dim": 16,
    "torch_dtype": "bfloat16",
}
PART = "linears that may be left in 16 bits"


asked = usual(
    "train",
    None,
    offline=True,
    framework="unsloth",
    method="qlora",
    lora_targets=TARGETS,
    seq_len=64,
)


def phase(report, name):
    return next(p for p in report.devices[0].phases if p.name == name)


def part(report, name, where="load", detail=""):
    found = [c for c in phase(report, where).components if (c.name, c.detail) == (name, detail)]
    return found[0].bytes if found else None


# ---- what is packed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings", "loaded"),
    [
        ("gpt-oss-20b", {"gpu": "t4", "seq_len": 1024, "lora_r": 8}, 12.8),
        ("gpt-oss-120b", {"gpu": "a100-80gb", "seq_len": 2048}, 59.27),
    ],
)
def test_gpt_oss_loads_experts_in_4_bits_and_attention_in_16(model, settings, loaded):
    report = asked(model, **settings)
    assert phase(report, "load").at("reserved").expected == pytest.approx(loaded * GIB, rel=0.02)
    assert report.verdict.fits != "no"


@pytest.mark.slow
def test_a_step_of_gpt_oss_adds_little_on_a_t4():
    report = asked("gpt-oss-20b", gpu="t4", seq_len=1024, lora_r=8, optimizer="adamw_8bit")
    peak = report.devices[0].peak("reserved")
    assert peak.low <= 12.975 * GIB <= peak.high  # measured
    assert peak.expected == pytest.approx(12.975 * GIB, rel=0.02)


def test_gpt_oss_attends_without_scores():
    short, long = (asked(SINKS, seq_len=n, gpu="a100-40gb") for n in (1024, 2048))
    assert short.workload["attention"] == "flex"
    grown = [part(r, "activations", "backward").expected for r in (short, long)]
    assert grown[1] < 2.1 * grown[0]
    assert asked(SINKS, framework="trl").workload["attention"] == "eager"


@pytest.mark.parametrize(("release", "unpacked"), [("4.57", 0), ("5.5", 98_304)])
def test_experts_are_packed_whatever_the_class_has_them_as(release, unpacked):
    """Linears of each expert up to transformers 4, parameters since, of two layers: 3 matrices of
    64 x 64 for each of 4 experts."""
    mine = asked(SPARSE, engine_version=release)
    settings = {"framework": "plain", "quantization": "nf4-dq", "kbit_upcast": "none"}
    plain = asked(SPARSE, engine_version=release, lora_targets=["q_proj"], **settings)
    more = part(plain, "weights").expected - part(mine, "weights").expected
    assert more == pytest.approx(unpacked * 1.48, abs=7_000)  # and the maps of each matrix
    assert not any("bitsandbytes packs linear layers alone" in said for said in mine.warnings)


def test_an_adapter_of_packed_experts_reads_them_unpacked():
    """Three matrices of 64 x 64 for each of 4 experts, and what adapters of all make of them."""
    alone, all_of_them = (asked(SPARSE, lora_targets=t) for t in (["q_proj"], TARGETS))
    assert phase(all_of_them, "forward").at("allocated") > phase(alone, "forward").at("allocated")


# ---- what its copies leave


def test_what_the_copies_leave_is_open_where_no_config_lists_it():
    found = asked(SPARSE)
    weights, left = part(found, "weights"), part(found, "weights", detail=PART)
    assert left.low == 0
    assert left.high == pytest.approx(weights.expected / 4, rel=0.1)
    assert left.expected == left.high // 2
    assert any("-unsloth-bnb-4bit" in said for said in found.warnings)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (OTHER, {}),  # it has no copies of the class
        (SINKS, {}),  # whose copies are known
        (LLAMA, {"method": "lora"}),  # nothing is packed
        (LLAMA, {"framework": "trl"}),
    ],
)
def test_nothing_is_open_elsewhere(model, settings):
    found = asked(model, **settings)
    assert part(found, "weights", detail=PART) is None
    assert not any("-unsloth-bnb-4bit" in said for said in found.warnings)


def test_a_config_that_lists_what_is_left_is_read():
    four = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    }
    whole = {**SPARSE, "quantization_config": four}
    less = {**four, "llm_int8_skip_modules": ["lm_head", "model.layers.1.mlp"]}
    one, other = asked(whole), asked({**whole, "quantization_config": less})
    assert part(one, "weights", detail=PART) is None
    assert part(other, "weights").expected > part(one, "weights").expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "loaded"),
    [("qwen3-14b", 11.898), ("phi-4", 10.043), ("llama-3.3-70b", 39.221), ("gemma-4-31b", 18.57)],
)
def test_copies_that_were_loaded_are_inside(model, loaded):
    found = phase(asked(model), "load").at("reserved")
    assert found.low <= loaded * GIB <= found.high


PHI = {
    **LLAMA,
    "model_type": "phi3",
    "architectures": ["Phi3ForCausalLM"],
    "torch_dtype": "bfloat16",
    "pad_token_id": 0,
}


def test_copies_of_phi_3_are_of_llamas_class():
    """Phi_3.5_Mini-Conversational.ipynb prints 29,884,416 numbers trained, and 3.342 GiB at most."""
    found = asked("phi-3.5-mini-instruct", gpu="t4", batch_size=2, seq_len=2048, lora_r=16)
    assert found.derived["trainable_parameters"] == 29_884_416
    reserved = found.devices[0].peak("reserved")
    assert reserved.low <= 3.342 * GIB <= reserved.high


def test_a_copy_that_turns_a_part_of_each_head_keeps_its_class():
    """Phi-4-mini's: Llama turns all of it."""
    whole, some = (asked({**PHI, **more}) for more in ({}, {"partial_rotary_factor": 0.5}))
    trained = asked({**LLAMA, "torch_dtype": "bfloat16"}).derived["trainable_parameters"]
    assert whole.derived["trainable_parameters"] == trained
    assert some.derived["trainable_parameters"] != trained


# ---- how it runs


@pytest.mark.slow
def test_before_ampere_xformers_attends_without_scores():
    """A step of Qwen3-14B on a T4 takes about 2.4 GiB beside what was loaded, 2 x 2,048 tokens."""
    found = asked("qwen3-14b", gpu="t4", batch_size=2, seq_len=2048, lora_r=32)
    alone = phase(found, "backward").at("allocated").expected
    assert alone - phase(found, "load").at("allocated").expected < 2.6 * GIB
    assert found.verdict.fits != "no"  # 14.07 and 14.51 GiB were measured on one


@pytest.mark.parametrize(("card", "wide"), [("t4", True), ("a100-40gb", False)])
def test_layers_are_in_float32_where_float16_is_too_narrow(card, wide):
    found = asked(GEMMA, gpu=card)
    assert (part(found, "activations", "forward", "in float32") is not None) == wide
    assert part(asked(LLAMA, gpu=card), "activations", "forward", "in float32") is None


def test_what_layers_pass_on_is_twice_as_large_in_float32():
    """The one input that is on the card, 64 tokens of 64 numbers; others are on the host."""
    settings = {"checkpointing": "full", "seq_len": 512}
    wide, usual = (
        asked(GEMMA, gpu=card, **settings).derived["saved_activation_bytes"]
        for card in ("t4", "a100-40gb")
    )
    assert wide - usual == pytest.approx(2 * 512 * 64 * 3, abs=2 * 512 * 64)


@all_of(
    ("logits", "free", "chunks"),
    [
        (1_000_000, None, 1),
        (GIB // 4, GIB + 2, 1),  # in float32 less than all that is free
        (GIB // 4, GIB - GIB // 8, 4),
        (GIB, 2 * GIB, 4),
        (GIB, GIB, 8),
        (GIB, 0, 4 * round(GIB)),
    ],
)
def test_older_releases_cut_logits_by_what_is_free(logits, free, chunks):
    assert unsloth.older_chunks(logits, free) == chunks


@pytest.mark.parametrize(
    ("logits", "free", "chunks"),
    [
        (GIB, 80 * GIB, 1),  # 4 GiB in float32
        (GIB + 1, 80 * GIB, 4),
        (4 * GIB, 80 * GIB, 4),
        (4 * GIB + 4, 80 * GIB, 8),
        (GIB, 6 * GIB, 4),  # 4 GiB in 3
        (GIB, None, 1),
    ],
)
def test_four_gib_are_the_most_of_a_chunk_since_2026_7(logits, free, chunks):
    assert unsloth.older_chunks(logits, free, capped=True) == chunks


def test_an_older_chunk_is_in_the_high_end_of_the_loss():
    found = part(asked(LLAMA, seq_len=512), "logits", "loss", "longer chunks")
    assert found == (0, 0, 512 * LLAMA["vocab_size"] * 6)
    assert part(asked(LLAMA, loss="standard"), "logits", "loss", "longer chunks") is None


@pytest.mark.parametrize(
    ("release", "meant"),
    [
        ("2024.1", 6),
        ("2024.11.6", 6),
        ("2024.11.7", 0),
        ("2025.8.4", 0),
        ("2025.8.5", 3),
        ("2026.6.7", 3),
        ("2026.9.2", 3),
        ("2026.9.3", 0),
        (None, 0),
    ],
)
def test_a_release_says_how_much_of_a_chunk_is_meant(release, meant):
    """Bytes a logit: in 16 bits and in float32, half of both where torch.compile decides, none
    where a kernel made no logits or chunks are short."""
    found = asked(LLAMA, seq_len=512, framework_version=release)
    numel = 512 * LLAMA["vocab_size"]
    assert part(found, "logits", "loss", "longer chunks") == (0, meant * numel, 6 * numel)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "release", "settings", "measured"),
    [
        ("codegemma-7b", "2024.4", {"batch_size": 1, "seq_len": 4096}, 12.316),
        ("llama-3.2-3b", "2024.10.0", {"batch_size": 2, "seq_len": 2048}, 6.531),
    ],
)
def test_all_logits_were_there_in_2024(model, release, settings, measured):
    """On a T4, with rows that fill the length. The newest release takes half as much and less."""
    usual = {"gpu": "t4", "lora_r": 16, "optimizer": "adamw_8bit", **settings}
    then, now = (asked(model, framework_version=v, **usual) for v in (release, None))
    assert then.devices[0].peak("reserved").expected == pytest.approx(measured * GIB, rel=0.06)
    assert now.devices[0].peak("reserved").expected < 0.6 * measured * GIB
    assert not any("2024" in said for said in then.warnings)


def test_no_release_takes_less_than_the_newest():
    model, sizes = {**LLAMA, "vocab_size": 4096}, {"seq_len": 2048, "gpu": "t4"}
    newest = asked(model, **sizes).devices[0].peak("reserved")
    for release in ("2024.4", "2024.12.2", "2025.9.1", "2026.8.1"):
        older = asked(model, framework_version=release, **sizes).devices[0].peak("reserved")
        assert older.expected >= newest.expected
        assert older.high >= newest.high


# ---- classes that predict no next token


@pytest.mark.slow
@pytest.mark.parametrize("model", ["whisper-large-v3", "bert-large", "bge-m3"])
def test_a_class_of_its_own_loss_is_trained_by_it(model):
    found = weighbridge.train(model, framework="unsloth", method="lora", gpu="t4", offline=True)
    assert found.workload["loss"] == "standard"
    assert found.verdict.fits == "yes"
    with pytest.raises(UsageError, match="does not predict the next token"):
        asked(model, method="lora", lora_targets=["all-linear"], loss="unsloth")


# ---- axolotl's experts in 4 bits


def test_axolotl_packs_experts_where_its_file_says_so():
    usual = {"framework": "axolotl", "lora_targets": ["q_proj"]}
    plain, packed = (asked(SPARSE, quantize_moe_experts=x, **usual) for x in (False, True))
    more = part(plain, "weights").expected - part(packed, "weights").expected
    assert more == pytest.approx(98_304 * 1.48, abs=7_000)
    assert any("bitsandbytes packs linear layers alone" in said for said in plain.warnings)
    assert not any("bitsandbytes packs linear layers alone" in said for said in packed.warnings)
    with pytest.raises(UsageError, match="is of 4 bits: add --method qlora"):
        asked(SPARSE, quantize_moe_experts=True, method="lora", **usual)


# ---- components, by themselves


def alone(*, rows=4, vocab=GIB // 16, card=None, stream=None, release=None):
    """A run of a base in 16 bits, of which nothing is open but the loss."""
    subject = SimpleNamespace(
        choice=SimpleNamespace(scheme=None),
        part=SimpleNamespace(quantization=None),
        body=SimpleNamespace(vocab=vocab),
    )
    visible = SimpleNamespace(bytes=SimpleNamespace(low=card))
    return SimpleNamespace(
        framework=SimpleNamespace(own_copies=True),
        subject=subject,
        stream=stream,
        loss="unsloth",
        batch=2,
        length=rows // 2,
        release=release,
        part=None if card is None else SimpleNamespace(visible=visible),
    )


@pytest.mark.parametrize(
    ("card", "loaded", "chunks"),
    [(None, 0, 1), (3 * GIB, GIB, 1), (3 * GIB, 2 * GIB + GIB // 8, 4)],
)
def test_a_chunk_is_as_long_as_what_is_free_lets_it(card, loaded, chunks):
    """A quarter of a GiB of logits, 1 GiB in float32, is one chunk where more than that is free."""
    (one,) = unsloth.components(alone(card=card), "loss", loaded, 7)
    assert one.bytes == (0, 0, 6 * (GIB // 4 // chunks))
    assert not list(unsloth.components(alone(card=card), "backward", loaded, 7))


@pytest.mark.parametrize(("release", "chunks"), [((2025, 8, 4), 1), ((2025, 8, 5), 4)])
def test_what_is_free_cuts_nothing_before_there_were_chunks(release, chunks):
    plan = alone(card=3 * GIB, release=release)
    (one,) = unsloth.components(plan, "loss", 2 * GIB + GIB // 8, 7)
    assert one.bytes.high == 6 * (GIB // 4 // chunks)


@pytest.mark.parametrize(("release", "chunks"), [((2026, 6, 7), 1), ((2026, 7, 1), 4)])
def test_much_that_is_free_is_not_one_chunk_since_2026_7(release, chunks):
    """5 GiB in float32, and 80 free."""
    plan = alone(card=80 * GIB, release=release, vocab=5 * GIB // 16)
    (one,) = unsloth.components(plan, "loss", 0, 7)
    assert one.bytes == (0, 3 * (5 * GIB // 4 // chunks), 6 * (5 * GIB // 4 // chunks))


def test_what_is_cast_to_float32_is_open_once_training_runs():
    (cast,) = unsloth.components(alone(stream="float32"), "forward", 0, 7)
    assert cast.bytes == (0, 0, 7)
    assert not list(unsloth.components(alone(stream="float32"), "load", 0, 7))


SEES = {
    **LLAMA,
    "model_type": "qwen2_vl",
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "torch_dtype": "bfloat16",
    "vision_config": {
        "model_type": "qwen2_vl",
        "depth": 2,
        "embed_dim": 64,
        "hidden_size": 64,
        "num_heads": 4,
        "mlp_ratio": 2,
    },
}


def test_towers_may_be_left_too():
    """Two blocks of 64 x (3 x 64 + 64 + 2 x 128) numbers, and the merger's (256 + 64) x 256:
    three quarters of 16 bits each. The rest is a quarter of the weights."""
    found = asked(SEES, lora_targets=["q_proj"])
    weights, left = part(found, "weights").expected, part(found, "weights", detail=PART)
    linears = 2 * 64 * (3 * 64 + 64 + 2 * 128) + (256 + 64) * 256
    assert left.high == pytest.approx(weights / 4 + 2 * linears * 3 / 4, rel=0.03)


@pytest.mark.parametrize(("nested", "scales"), [(True, 4 * 409_600 // 64), (False, 0)])
def test_a_stack_is_unpacked_whole_or_one_expert_at_a_time(nested, scales):
    """Two experts of 640 x 320 in 16 bits; scales that are packed themselves are unpacked."""
    m = Machine(CountedHeap())
    stack = Stack4((2, 640, 320), BFLOAT16, nested=nested)
    given = m.new((256,), BFLOAT16)  # one block
    whole = stack(m, given)
    assert whole.shape == (2, 640, 320)
    assert m.heap.phase().allocated == 512 + 2 * 409_600 + scales
    assert stack.one(m, m.new((8, 320), BFLOAT16), (640, 320)).shape == (8, 640)


def test_stacks_stay_in_16_bits_beside_the_transformers_of_releases_that_did_not_pack_them():
    """46.62 GiB when loaded and 46.93 at most, on an A100 (Gemma4_(26B_A4B)-Vision.ipynb)."""
    asked = usual("train", "gemma-4-26b-a4b-it", framework="unsloth", method="qlora", lora_r=32)
    older, newer = (asked(gpu="a100-80gb", engine_version=v).fullest for v in ("5.5", "5.6"))
    peak = older.peak("reserved")
    assert peak.low < newer.peak("reserved").expected < 46.93 * GIB < peak.expected < 52 * GIB
    assert newer.peak("reserved").expected < 20 * GIB


@pytest.mark.slow
@pytest.mark.parametrize("framework", each(3, ["unsloth", "trl", "trainer"]))
def test_experts_that_are_not_gated_are_modules_before_transformers_5(framework):
    """59.75 GiB when loaded (Nemotron-Nano-3-30B-A3B_A100.ipynb); a step keeps more than stacks."""
    asked = usual("train", "nemotron-3-nano-30b-a3b", method="lora", gpu="a100-80gb")
    older, newer = (asked(framework=framework, engine_version=v) for v in ("4.56", "5.17"))
    assert older.peak.expected > newer.peak.expected
    load = next(p for p in older.devices[0].phases if p.name == "load")
    weights = sum(c.bytes.expected for c in load.components if c.name == "weights")
    assert abs(weights / GIB / 59.2 - 1) < 0.01


@pytest.mark.parametrize("model", ["all-minilm-l6-v2", "bge-m3", "modernbert-base"])
def test_encoders_have_no_checkpoints_unless_they_are_asked_for(model):
    """FastSentenceTransformer: use_gradient_checkpointing = False, which torch.compile wants."""
    asked = {"framework": "unsloth", "method": "lora", "seq_len": 64, "batch_size": 8}
    found = weighbridge.train(model, offline=True, **asked)
    typed = weighbridge.train(model, offline=True, checkpointing="offload", **asked)
    assert found.workload["checkpointing"] == "none"
    assert typed.workload["checkpointing"] == "offload"
    assert found.devices[0].peak("allocated").high > typed.devices[0].peak("allocated").high


def test_a_decoder_keeps_unsloths_own():
    found = weighbridge.train(SPARSE, offline=True, framework="unsloth", method="lora", seq_len=64)
    assert found.workload["checkpointing"] == "offload"


def test_pairs_of_short_sentences_by_an_encoder():
    """nb/All_MiniLM_L6_v2.ipynb on a T4: 256 pairs of NLI, of no more than about 64 tokens. It is
    in float16 there, whose attention has a kernel that keeps no scores."""
    asked = {"lora_r": 64, "lora_targets": ["all-linear"], "batch_size": 256, "seq_len": 64}
    run = {"framework": "unsloth", "method": "lora", "gpu": "t4", "optimizer": "adamw_torch"}
    found = weighbridge.train("all-minilm-l6-v2", offline=True, **run, **asked)
    typed = weighbridge.train(
        "all-minilm-l6-v2", offline=True, precision="fp16-mixed", dtype="float16", **run, **asked
    )
    peak = found.devices[0].peak("reserved")
    assert peak == typed.devices[0].peak("reserved")
    assert peak.low < 3.287 * GIB < peak.high
    assert peak.expected == pytest.approx(3.287 * GIB, rel=0.15)
    assert any("takes float16 by itself" in said for said in found.warnings)
