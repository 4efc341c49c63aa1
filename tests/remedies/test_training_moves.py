"""Changes of training, each by hand: when it is offered, what it changes, what it leaves."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from tests.remedies.made import case, of_kind
from weighbridge.answers.remedies.training import moves, runnable
from weighbridge.base.memory import Component, Device, Instant, exactly
from weighbridge.base.units import GIB
from weighbridge.workload.train import LEARNERS

GPU = "a100-80gb"


def found(kind, **settings):
    return of_kind(moves(case("train", **settings)), kind)


def offered(kind, **settings):
    return [dict(m.change) for m in found(kind, **settings)]


@all_of(
    ("settings", "changes"),
    [
        ({"loss": "standard"}, [{"loss": "liger"}]),
        ({"loss": "standard", "framework": "torchtune"}, [{"loss": "chunked"}]),
        ({"loss": "standard", "framework": "unsloth"}, []),
        ({"loss": "standard", "architecture": "GraniteForCausalLM"}, []),
        ({"loss": "standard", "pinned": ("loss",)}, []),
        ({"loss": "liger"}, []),
    ],
)
def test_a_loss_without_logits(settings, changes):
    assert offered("loss", **settings) == changes


@all_of(
    ("settings", "changes"),
    [
        ({"attention": "eager"}, [{"attention": "efficient"}]),
        ({"attention": "math"}, [{"attention": "efficient"}]),
        ({"attention": "flash"}, []),
        ({"attention": "eager", "architecture": "Gemma2ForCausalLM"}, [{"attention": "flash"}]),
        ({"attention": "eager", "architecture": "Gemma2ForCausalLM", "gpu": "t4"}, []),
        ({"attention": "eager", "architecture": "Gemma2ForCausalLM", "gpu": "m4-24gb"}, []),
        ({"attention": "eager", "pinned": ("attention",)}, []),
    ],
)
def test_attention_without_scores(settings, changes):
    """Flash attention caps scores, from compute capability 8.0 on."""
    assert offered("attention", **settings) == changes


def test_checkpoints():
    assert offered("checkpointing", checkpointing="none") == [{"checkpointing": "full"}]
    assert offered("checkpointing") == []
    (move,) = found("checkpointing", checkpointing="none")
    assert (move.remains("activations"), move.remains("weights")) == (0.15, 1.0)


def test_smaller_states_of_adam_alone():
    names = [c["optimizer"] for c in offered("optimizer", optimizer="adamw_torch")]
    assert names == ["adamw_8bit", "paged_adamw_8bit", "adafactor"]
    assert offered("optimizer", optimizer="adamw_torch", gpu="m4-24gb") == [
        {"optimizer": "adafactor"}
    ]
    assert offered("optimizer", optimizer="sgd") == []
    assert offered("optimizer", optimizer="adamw", pinned=("optim_args",)) == []


def test_an_optimizer_whose_states_are_on_the_host_takes_nothing_of_the_card():
    assert offered("optimizer", optimizer="adamw_torch", offload="optimizer") == []
    away = found("offload", gpu="a100-80gb", method="full")
    assert {m.beside for m in away} == {frozenset(("optimizer", "precision"))}


def test_deepspeed_trains_in_float32_whatever_is_loaded():
    """Other ways of sharing train the weights that are loaded."""
    mixed = {"precision": "bf16-mixed"}
    assert offered("precision", **mixed) == [{"precision": "bf16"}]
    assert offered("precision", shard="fsdp2", **mixed) == [{"precision": "bf16"}]
    assert offered("precision", shard="zero2", **mixed) == []
    shared = {m.change["shard"]: m.beside for m in found("sharding", gpu="a100-80gb:2")}
    precision = frozenset(("precision",))
    assert shared == {"zero2": precision, "zero3": precision, "fsdp2": frozenset()}


def test_a_batch_is_halved_while_it_is_even():
    """12 sequences are 6 x 2 or 3 x 4, and no eighths of them."""
    changes = offered("batch", batch_size=12, gradient_accumulation=5)
    assert changes == [
        {"batch_size": 6, "gradient_accumulation": 10},
        {"batch_size": 3, "gradient_accumulation": 20},
    ]
    sizes = [c["batch_size"] for c in offered("batch", batch_size=64)]
    assert sizes == [32, 16, 8, 4, 2], "pieces of 2 to 32"
    pieces = [c["gradient_accumulation"] for c in offered("batch", batch_size=2)]
    assert pieces == [2]
    assert (
        offered("batch", batch_size=2, gradient_accumulation=None)[0]["gradient_accumulation"] == 2
    )
    assert offered("batch", batch_size=3) == []
    assert offered("batch", batch_size=4, pinned=("gradient_accumulation",)) == []


def test_what_micro_batches_leave():
    """A quarter of what a step holds, four fifths of that surely; 1 point for each halving."""
    _, four = found("batch", batch_size=4)
    assert four.leaves == {"activations": 0.2, "logits": 0.2}
    assert four.keeps == {"activations": 0.25, "logits": 0.25}
    assert four.points == 2
    assert "4 times as many micro-batches of 1" in four.cost.words


@all_of(
    ("length", "shorter"),
    [(2048, [1024, 512, 256]), (2047, [1023, 511]), (512, [256]), (511, []), (1, [])],
)
def test_sequences_of_256_tokens_at_least(length, shorter):
    assert [c["seq_len"] for c in offered("seq_len", seq_len=length)] == shorter
    assert offered("seq_len", seq_len=length, pinned=("seq_len",)) == []


def test_what_shorter_sequences_leave():
    """In proportion to the length, with scores to its square; four fifths of it surely."""
    half, quarter, _ = found("seq_len", seq_len=4096)
    assert half.leaves == {"activations": 0.4, "logits": 0.4}
    assert quarter.keeps == {"activations": 0.25, "logits": 0.25}
    half, quarter, _ = found("seq_len", seq_len=4096, attention="eager")
    assert half.leaves == {"activations": pytest.approx(0.2), "logits": pytest.approx(0.2)}
    assert quarter.leaves["logits"] == pytest.approx(0.05)


@all_of(
    ("settings", "methods"),
    [
        ({"method": "full"}, ["lora", "qlora"]),
        ({"method": "lora"}, ["qlora"]),
        ({"method": "dora"}, ["qlora"]),
        ({"method": "qlora"}, []),
        ({"method": "lora", "quantization": "bnb-int8"}, []),
        ({"method": "full", "gpu": "m4-24gb"}, ["lora"]),
        ({"method": "full", "pinned": ("dtype",)}, []),
    ],
)
def test_methods_that_train_less(settings, methods):
    assert [c["method"] for c in offered("method", **settings)] == methods


def test_what_adapters_leave():
    """A frozen base of 32 bits in 16, 2 % of the gradients and states; in nf4 5 of 16 bits."""
    lora, qlora = found("method", method="full")
    assert lora.keeps == {
        "weights": 0.5,
        "gradients": 0.02,
        "optimizer_states": 0.02,
        "master_weights": 0.0,
    }
    assert qlora.keeps["weights"] == 5 / 16
    (alone,) = found("method", method="lora", dtype="float32")
    assert alone.keeps["weights"] == 5 / 32
    assert qlora.points == pytest.approx(lora.points + alone.points + 2)


def test_an_upcast_can_be_left_out():
    upcast = {"method": "qlora", "quantization": "nf4", "kbit_upcast": "peft"}
    (move,) = found("upcast", **upcast)
    assert move.change == {"kbit_upcast": "none"}
    assert move.keeps == {"activations": 0.6, "weights": 0.8}
    assert move.leaves == {"weights": 0.5, "activations": 0.25, "logits": 0.25}
    assert found("upcast", **{**upcast, "kbit_upcast": "none"}) == []
    assert found("upcast", **upcast, pinned=("kbit_upcast",)) == []
    assert found("upcast", **{**upcast, "method": "full"}) == []


def test_a_frozen_base_in_fewer_bits():
    """nf4 under its own name where the method is pinned: QLoRA is another method."""
    assert offered("quantization", method="lora") == [{"quantization": "bnb-int8"}]
    int8, nf4 = found("quantization", method="lora", pinned=("method",))
    assert nf4.change == {"quantization": "nf4"}
    assert (int8.leaves["weights"], int8.keeps["weights"]) == (8 / 16, 9 / 16)
    assert (nf4.leaves["weights"], nf4.keeps["weights"]) == (4 / 16, 5 / 16)
    assert (int8.alone, nf4.alone) == (True, False)
    assert offered("quantization", method="full") == []
    assert offered("quantization", method="lora", quantization="nf4") == []
    assert offered("quantization", method="lora", gpu="m4-24gb") == []


def test_of_a_base_whose_experts_are_in_stacks_those_stay():
    """Experts are three fourths of a model of which a token uses a fourth, and they stay."""
    question = case("train", method="lora", pinned=("method",))
    question.report.model.active_parameters = 250_000
    for tensors, apart, leaves in ((323, 995, 13 / 16), (323, 323, 4 / 16), (0, 0, 4 / 16)):
        some = moves(replace(question, tensors=tensors, apart=apart))
        _, nf4 = of_kind(some, "quantization")
        assert nf4.leaves == {"weights": leaves}
        assert nf4.keeps["weights"] > leaves


@pytest.mark.parametrize(("rank", "smaller"), [(9, [8]), (8, []), (None, []), (64, [8])])
def test_ranks_of_eight_at_least(rank, smaller):
    assert [c["lora_r"] for c in offered("rank", method="lora", lora_r=rank)] == smaller


def test_a_smaller_rank_costs_a_point_for_each_halving():
    """64 to 8 are three of them, and 2 points of scope."""
    (move,) = found("rank", method="lora", lora_r=64)
    assert move.points == 5
    assert move.keeps == {
        "adapters": 0.3,
        "gradients": 0.3,
        "optimizer_states": 0.3,
        "activations": 0.8,
    }
    assert "weights" not in move.touches
    assert "logits" in move.touches


@pytest.mark.parametrize(
    ("targets", "fewer"),
    [
        (("q_proj", "k_proj", "v_proj"), True),
        (("q_proj", "v_proj"), False),
        (("q_proj", "k_proj", "o_proj"), False),
    ],
)
def test_queries_and_values_alone(targets, fewer):
    changes = offered("targets", method="lora", lora_r=4, lora_targets=targets)
    assert changes == ([{"lora_targets": ("q_proj", "v_proj")}] if fewer else [])


@all_of(
    ("settings", "precisions"),
    [
        ({"precision": "fp32"}, ["bf16-mixed", "bf16"]),
        ({"precision": "fp32", "method": "lora"}, ["bf16-mixed"]),
        ({"precision": "bf16-mixed"}, ["bf16"]),
        ({"precision": "fp16-mixed"}, ["bf16"]),
        ({"precision": "bf16"}, []),
        ({"precision": "fp32", "gpu": "t4"}, []),
        ({"precision": "fp32", "pinned": ("dtype",)}, ["bf16-mixed"]),
        ({"precision": "fp32", "pinned": ("precision",)}, []),
    ],
)
def test_precisions(settings, precisions):
    assert [c["precision"] for c in offered("precision", **settings)] == precisions


def test_what_pure_sixteen_bits_leave():
    """Half of all that was in 32; of activations surely two fifths."""
    (move,) = found("precision", precision="bf16-mixed")
    assert move.leaves == {"weights": 0.5, "gradients": 0.5, "activations": 0.4}
    halved = ("weights", "gradients", "optimizer_states", "temporaries")
    assert move.keeps == dict.fromkeys(halved, 0.5)


@all_of(
    ("settings", "shards"),
    [
        ({}, []),
        ({"gpu": f"{GPU}:2"}, ["zero2", "fsdp2", "zero3"]),
        ({"gpu": f"{GPU}:2", "shard": "ddp"}, ["zero2", "fsdp2", "zero3"]),
        ({"gpu": f"{GPU}:2", "shard": "zero1"}, ["zero2", "fsdp2", "zero3"]),
        ({"gpu": f"{GPU}:2", "shard": "zero2"}, ["fsdp2", "zero3"]),
        ({"gpu": f"{GPU}:2", "shard": "zero3"}, []),
        ({"gpu": f"{GPU}:2", "pinned": ("tensor_parallel_size",)}, []),
    ],
)
def test_what_ranks_share_out(settings, shards):
    assert [c["shard"] for c in offered("sharding", **settings)] == shards


def test_what_four_ranks_hold_each():
    """Nine tenths of all weights, or of a fourth of them; the half of that in 16 bits of 32."""
    two, every, zero = found("sharding", gpu=f"{GPU}:4")
    assert two.leaves["weights"] == 0.9
    assert every.leaves["weights"] == zero.leaves["weights"] == 0.9 / 4
    of_32 = found("sharding", gpu=f"{GPU}:4", dtype="float32")
    assert [m.leaves["weights"] for m in of_32] == [0.45, 0.45 / 4, 0.45 / 4]
    packed = found("sharding", gpu=f"{GPU}:4", quantization="nf4")
    assert packed[0].leaves["weights"] == 0.9
    parts = ("gradients", "optimizer_states", "master_weights", "temporaries")
    assert two.keeps == dict.fromkeys(parts, 0.25)
    assert every.keeps == dict.fromkeys(("weights", *parts), 0.25)
    for move in (two, every, zero):
        assert (move.leaves["activations"], move.leaves["logits"]) == (0.4, 0.4)


@all_of(
    ("storage", "quantization", "said"),
    [
        (None, "nf4", True),
        (None, "nf4-dq", True),
        (None, "fp4", True),
        (None, "hqq-4bit-g64", False),
        ("uint8", "nf4", True),
        ("bfloat16", "nf4", False),
    ],
)
def test_fsdp_shares_packed_weights_that_are_stored_as_floats(storage, quantization, said):
    settings = {"quantization": quantization, "bnb_4bit_quant_storage": storage}
    _, fsdp, zero = offered("sharding", gpu=f"{GPU}:2", method="qlora", **settings)
    assert fsdp.get("bnb_4bit_quant_storage") == ("bfloat16" if said else None)
    assert "bnb_4bit_quant_storage" not in zero


@all_of(
    ("settings", "changes"),
    [
        (
            {},
            [{"shard": "zero2", "offload": "optimizer"}, {"shard": "zero3", "offload": "params"}],
        ),
        ({"shard": "zero3"}, [{"offload": "optimizer"}, {"offload": "params"}]),
        ({"shard": "zero2", "pinned": ("shard",)}, [{"offload": "optimizer"}]),
        ({"shard": "fsdp2", "pinned": ("shard",)}, []),
        ({"offload": "params"}, []),
        ({"method": "lora"}, []),
        ({"gpu": "m4-24gb"}, []),
        ({"pinned": ("optimizer",)}, []),
    ],
)
def test_states_and_parameters_on_the_host(settings, changes):
    assert offered("offload", **settings) == changes


def test_what_stays_on_the_device():
    states, params = found("offload")
    assert states.keeps == {"optimizer_states": 0.0, "master_weights": 0.0, "weights": 0.5}
    assert params.keeps["weights"] == params.keeps["optimizer_states"] == 0.1
    assert states.leaves == {"weights": 0.9, "activations": 0.4, "logits": 0.4}
    assert params.leaves == {"activations": 0.4, "logits": 0.4}
    shared, _ = found("offload", gpu=f"{GPU}:2", shard="zero3")
    assert shared.leaves["weights"] == 0.9 / 2


def test_a_base_without_kernels_has_no_changes():
    """bitsandbytes has none for Metal."""
    assert list(moves(case(gpu="m4-24gb", method="qlora", quantization="nf4"))) == []


def test_a_precision_that_the_card_has():
    assert runnable(case()).change == {"precision": "fp16-mixed"}
    assert runnable(case(pinned=("precision",))) is None


def releases(tensors, apart, form="nf4", **settings):
    question = replace(case("train", quantization=form, **settings), tensors=tensors, apart=apart)
    return of_kind(moves(question), "release")


def test_experts_that_are_not_packed_are_linears_in_an_older_release():
    (few,) = releases(323, 995)
    assert dict(few.change) == {"engine_version": "4.57"}
    assert few.leaves == {"weights": 0.25}
    assert not few.alone
    assert releases(323, 995, "bnb-int8")[0].leaves == {"weights": 0.5}
    (many,) = releases(579, 18_867)  # a run takes its time: it is asked once
    assert many.alone
    assert not releases(323, 4_000)[0].alone
    assert releases(323, 4_001)[0].alone
    assert len(releases(323, 20_000)) == 1
    assert releases(323, 20_001) == []
    assert releases(291, 291) == []  # no experts
    assert releases(323, 995, "awq-4bit-g128") == []
    assert releases(323, 995, None) == []
    assert releases(323, 995, pinned=("engine_version",)) == []


EIGHT_CARDS = "h100:8"


@all_of(
    ("settings", "changes"),
    [
        ({"gpu": EIGHT_CARDS, "shard": "fsdp2"}, [{"cpu_ram_efficient_loading": True}]),
        ({"gpu": EIGHT_CARDS, "shard": "fsdp2", "cpu_ram_efficient_loading": True}, []),
        ({"gpu": EIGHT_CARDS, "shard": "zero3"}, []),  # which reads in pieces
        ({"gpu": EIGHT_CARDS, "shard": "ddp"}, []),
        ({"gpu": "h100", "shard": "fsdp2"}, []),
    ],
)
def test_one_rank_reads_for_those_that_share_out(settings, changes):
    assert offered("loading", **settings) == changes


@pytest.mark.slow
def test_one_rank_that_reads_saves_the_host_memory_of_the_others():
    """Eight processes that each read 8B in float32 need 251 GiB: one of them 42."""
    asked = {"gpu": "h200:8", "shard": "fsdp2", "checkpointing": "full", "ram": "160GB"}
    report = weighbridge.train("llama-3.1-8b", **asked)
    assert report.verdict.fits == "no"
    first = report.remedies[0]
    assert (dict(first.change), first.fits) == ({"cpu_ram_efficient_loading": True}, "yes")


SHORT, ENOUGH = SimpleNamespace(fits="unknown"), SimpleNamespace(fits="yes")


@all_of(
    ("settings", "changes"),
    [
        ({"offload": "params", "shard": "zero3", "host": SHORT}, ["optimizer", "none"]),
        ({"offload": "params", "shard": "fsdp2", "host": SHORT}, ["none"]),
        ({"offload": "optimizer", "shard": "zero2", "host": SHORT}, ["none"]),
        ({"offload": "params", "shard": "zero3", "host": ENOUGH}, []),
        ({"offload": "params", "shard": "zero3"}, []),
        ({"offload": "none", "shard": "zero3", "host": SHORT}, []),
    ],
)
def test_less_is_kept_on_the_host_where_that_is_short(settings, changes):
    """Though it was asked for: a run whose cards have room is not told to train adapters first."""
    asked = {"gpu": EIGHT_CARDS, "pinned": ("offload", "shard"), **settings}
    moved = [change for change in offered("offload", **asked) if "shard" not in change]
    assert [change["offload"] for change in moved] == changes


@pytest.mark.slow
def test_what_saves_the_run_that_was_killed():
    """Qwen2.5-32B on one card with 744 GB, as its file pins and gathers (LLaMA-Factory issue 6755):
    parts are saved, and pages are not pinned, which is what users found (QwenLM/Qwen3 issue
    804)."""
    asked = {"gpu": "h100-nvl", "shard": "zero3", "offload": "params", "checkpointing": "full"}
    asked |= {"zero_pin_memory": True, "gather_on_save": True, "ram": "744GB"}
    report = weighbridge.train("qwen2.5-32b", framework="deepspeed", **asked)
    changes = [(dict(remedy.change), remedy.fits) for remedy in report.remedies]
    theirs = {"gather_on_save": False, "zero_pin_memory": False}
    assert (theirs, "yes") in changes
    saved = weighbridge.train("qwen2.5-32b", framework="deepspeed", **asked | theirs)
    assert saved.verdict.fits == "yes"


@pytest.mark.slow
def test_two_changes_together_where_the_host_is_short():
    """Neither is enough alone: eight ranks read 240 GiB, and one rank's reading leaves 120 of what
    FSDP offloads. By hand in GiB: weights of 4 bytes are 30 once, and eight processes 12."""
    asked = {"gpu": "h100:8", "shard": "fsdp2", "offload": "params", "checkpointing": "full"}
    report = weighbridge.train("llama-3.1-8b", ram="100GiB", **asked)
    first = report.remedies[0]
    assert dict(first.change) == {"cpu_ram_efficient_loading": True, "offload": "none"}
    assert first.host.expected / 2**30 == pytest.approx(4 * 8.03e9 / 2**30 + 8 * 1.5, abs=0.5)
    for change in first.change:
        alone = weighbridge.train(
            "llama-3.1-8b", ram="100GiB", **asked | {change: first.change[change]}
        )
        assert alone.verdict.fits != "yes"


@pytest.mark.slow
def test_a_change_that_leaves_the_host_as_it_is_is_not_told():
    """The card has room to spare, and one process may take 1.5 to 6 GiB of RAM: neither fewer bits
    nor fewer graphs are of use; more RAM is."""
    report = weighbridge.infer("llama-3.1-8b", engine="vllm", gpu="h100", ram="4GiB")
    assert (report.verdict.fits, report.verdict.host.fits) == ("unknown", "unknown")
    assert [remedy.change for remedy in report.remedies] == [{"ram": "16GiB"}]


@pytest.mark.parametrize(
    ("length", "shard", "changes"),
    [
        (8 * 2048, "fsdp2", 1),
        (8 * 2048 - 1, "fsdp2", 0),
        (8 * 2048, "ddp", 2),  # by FSDP2 or ZeRO-3
        (8 * 2048, "hsdp", 0),
    ],
)
def test_sequences_are_cut_over_cards_where_they_are_long(length, shard, changes):
    made = [
        change
        for change in offered("sharding", gpu=EIGHT_CARDS, shard=shard, seq_len=length)
        if "context_parallel_size" in change
    ]
    assert len(made) == changes
    assert all(change["context_parallel_size"] == 8 for change in made)


@pytest.mark.parametrize(("framework", "there"), [("torchtitan", False), ("trainer", True)])
def test_an_optimizer_is_one_that_the_framework_has(framework, there):
    """torchtitan components/optimizer.py: Adam and AdamW."""
    made = offered("optimizer", framework=framework, optimizer="adamw_torch_fused")
    assert ({"optimizer": "adafactor"} in made) is there


@pytest.mark.slow
def test_segments_that_grow_are_offered_where_little_is_lacking():
    """LoRA of Qwen3-8B is 0.6 GiB fragmented, and lacks as much on 26 GiB."""
    asked = {"method": "lora", "framework": "trl", "batch_size": 4, "seq_len": 4096}
    close, far = (
        weighbridge.train("qwen3-8b", gpu_memory=memory, offline=True, **asked)
        for memory in ("26GiB", "23GiB")
    )
    grown = [r for r in close.remedies if dict(r.change) == {"expandable_segments": True}]
    assert [r.fits for r in grown] == ["yes"]
    again = weighbridge.train(
        "qwen3-8b", gpu_memory="26GiB", expandable_segments=True, offline=True, **asked
    )
    assert grown[0].per_device == again.verdict.per_device
    assert not [r for r in far.remedies if dict(r.change) == {"expandable_segments": True}]


def test_what_segments_that_grow_take_is_of_the_fragmented():
    held = [
        {"fragmentation": 4 * GIB, "rounding": GIB, "weights": 60 * GIB},
        {"fragmentation": 6 * GIB, "weights": 50 * GIB},
    ]
    phases = tuple(
        Instant(
            "step",
            tuple(Component(name=k, bytes=exactly(n), basis="computed") for k, n in each.items()),
        )
        for each in held
    )
    asked = case("train", devices=(Device(index=0, kind="gpu", phases=phases),))
    (move,) = of_kind(moves(asked), "allocator")
    assert asked.unfragmented(move) == pytest.approx(0.7 * 6 * GIB)
    (other,) = of_kind(moves(case("train", checkpointing="none")), "checkpointing")
    assert asked.unfragmented(other) == 0
    assert asked.guessed((move,)) == asked.guessed(()) == 60 * GIB


@all_of("framework", LEARNERS)
def test_a_framework_of_rewards_lists_no_optimizers(framework):
    """None is proposed for it, and what does not fit there is told."""
    assert offered("optimizer", framework=framework, optimizer="adamw_torch") == []
