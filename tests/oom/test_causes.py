"""Both sides of every share and figure by which a cause is told, and sums of a message: by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import BadFileError
from weighbridge.base.memory import Component, Device, Instant, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.files.oom import changes, explain, figures, reconcile
from weighbridge.files.oom.causes import conclusions, judge
from weighbridge.files.oom.reading import read
from weighbridge.files.oom.record import Judged, OomReading

CARD = 100 * GIB
TORCH = "torch-2.4.."


def reading(wording=TORCH, tool="torch", message="", place="", engine="", **parsed):
    sizes = {f"{name}_bytes" if isinstance(v, int) else name: v for name, v in parsed.items()}
    return OomReading(
        wording=wording, tool=tool, parsed=sizes, message=message, place=place, engine=engine
    )


def test_a_buffer_for_kernels_is_told_to_grow_to_twice_the_request_in_whole_gib():
    def told(engine, requested):
        found = reading("flashinfer", "flashinfer", engine=engine, requested=requested)
        judged = conclusions()["workspace"]
        return [next(iter(c.change.items())) for c in changes.changes(found, judged, {})]

    vllm, sglang = "VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE", "SGLANG_FLASHINFER_WORKSPACE_SIZE"
    assert told("vllm", GIB // 2) == [(vllm, GIB)]
    assert told("vllm", GIB // 2 + 1) == [(vllm, 2 * GIB)]
    assert told("sglang", GIB // 4) == [(sglang, GIB)]
    assert told("", GIB // 4) == [(vllm, GIB), (sglang, GIB)]


def named(judged):
    """The conclusion's name."""
    plain = replace(judged, figures={})
    return next((name for name, one in conclusions().items() if one == plain), judged.why)


def full(**other):
    """A card of 100 GiB that is this program's own: 95 GiB allocated, 1 cached, 4 free."""
    return {"capacity": CARD, "allocated": 95 * GIB, "unallocated": GIB, "free": 4 * GIB, **other}


@all_of(
    ("found", "settings", "why"),
    [
        # a tenth of the card, and as much as was asked for, is cached
        (reading(**full(allocated=86 * GIB, unallocated=10 * GIB, requested=10 * GIB)), {}, "fragmentation"),
        (reading(**full(allocated=86 * GIB, unallocated=10 * GIB, requested=10 * GIB + 1)), {}, "full"),
        (reading(**full(allocated=86 * GIB, unallocated=10 * GIB - 1, requested=5 * GIB)), {}, "full"),
        # a quarter is held by others, who are what is neither free nor ours
        (reading(**full(allocated=70 * GIB, requested=5 * GIB)), {}, "others"),
        (reading(**full(allocated=70 * GIB + 1, requested=5 * GIB)), {}, "full"),
        (reading(**full(allocated=70 * GIB, requested=CARD + 1)), {}, "one_tensor"),
        (reading(**full(allocated=70 * GIB, requested=CARD)), {}, "others"),
        # and of a small card more than a context
        (reading(capacity=2 * GIB, allocated=GIB, unallocated=0, free=0, requested=GIB), {}, "others"),
        (reading(capacity=2 * GIB, allocated=GIB + 1, unallocated=0, free=0, requested=GIB), {}, "full"),
        # one tensor is larger than the card
        (reading(**full(requested=CARD + 1)), {}, "one_tensor"),
        (reading(**full(requested=CARD)), {}, "full"),
        (reading(**full(requested=CARD + 1), place="attention"), {}, "one_tensor.attention_matrix"),
        (reading(**full(allocated=0, unallocated=0, free=CARD, requested=CARD + 1)), {}, "first_allocation"),
        (reading(**full(allocated=0, unallocated=0, free=CARD, requested=GIB)), {}, "first_allocation"),
        # there is room, and it is refused
        (reading(**full(requested=1 * GIB)), {}, "refused"),
        # and a little more than was asked for is no room, on a card that is full
        (reading(**full(requested=GIB + 1)), {}, "full"),
        (reading(**full(requested=4 * GIB)), {}, "full"),
        (reading(**full(allocated=80 * GIB, free=10 * GIB, requested=3 * GIB)), {}, "refused"),
        (reading(**full(allocated=80 * GIB, free=10 * GIB - 1, requested=3 * GIB)), {}, "full"),
        (reading(**full(allocated=49 * GIB, free=50 * GIB, requested=5 * GIB)), {}, "cap.share"),
        (reading(**full(requested=5 * GIB, allowed=100 * GIB)), {}, "cap.said"),
        (reading(**full(requested=4 * GIB, allowed=CARD)), {}, "cap.said"),
        (reading(**full(requested=5 * GIB, allowed=102 * GIB)), {}, "full"),
        # the card is full of what was never freed, and one weight more is asked for
        (reading(**full(unallocated=GIB // 2, allocated=89 * GIB + GIB // 2, free=GIB, requested=2 * GIB)), {}, "only_grew"),
        (reading(**full(unallocated=GIB // 2, allocated=89 * GIB + GIB // 2 - 1, free=GIB, requested=2 * GIB)), {}, "full"),
        (reading(**full(unallocated=GIB // 2 + 1, free=GIB, requested=2 * GIB)), {}, "full"),
        (reading(**full(unallocated=GIB // 2, free=GIB, requested=2 * GIB + 1)), {}, "full"),
        # Windows moves what is too much to host memory
        (reading(**full(allocated=101 * GIB, free=0, requested=GIB)), {}, "only_grew"),
        # servers: a share above vLLM's own default was asked for
        (reading(**full(requested=5 * GIB)), {"gpu_memory_utilization": 0.93}, "outside_share.card"),
        (reading(**full(requested=5 * GIB)), {"gpu_memory_utilization": 0.92}, "full"),
        (reading(**full(requested=5 * GIB)), {"mem_fraction_static": 0.93}, "outside_share.card"),
        (reading(**full(requested=5 * GIB)), {"engine": "sglang"}, "outside_share.card"),
        (reading("vllm-sampler", "vllm"), {"gpu_memory_utilization": 0.92}, "sampler"),
        (reading("vllm-sampler", "vllm"), {"gpu_memory_utilization": 0.921}, "sampler.share"),
        (reading("vllm-no-blocks", "vllm"), {"gpu_memory_utilization": 0.8}, "no_blocks"),
        (reading("vllm-no-blocks", "vllm"), {"gpu_memory_utilization": 0.79}, "share.low"),
        (reading("vllm-no-blocks", "vllm", utilization=0.5), {"gpu_memory_utilization": 0.9}, "share.low"),
        (reading("vllm-no-blocks", "vllm"), {}, "no_blocks"),
        # 15 % of the card were held before it started
        (reading("vllm-startup", "vllm", capacity=CARD, free=85 * GIB), {}, "startup.share"),
        (reading("vllm-startup", "vllm", capacity=CARD, free=85 * GIB - 1), {}, "startup.others"),
        (reading("vllm-startup", "vllm", capacity=CARD), {}, "unknown"),
    ],
)  # fmt: skip
def test_both_sides_of_every_share(found, settings, why):
    assert named(judge(found, settings)).removesuffix("_in_pieces") == why


@all_of(
    ("parsed", "why"),
    [
        ({"total": GIB, "requested": 100 * MIB, "temp": 100 * MIB}, "xla.temp"),
        ({"total": GIB, "requested": 101 * MIB, "temp": 100 * MIB}, "xla.temp"),
        ({"total": GIB, "requested": 101 * MIB + 1, "temp": 100 * MIB}, "xla.live"),
        ({"total": GIB, "requested": MIB, "parameter": GIB // 2}, "xla.live"),
        ({"total": GIB, "requested": MIB, "parameter": GIB // 2 + 1}, "xla.parameters"),
        ({"total": 64 * MIB, "requested": MIB}, "xla.live"),
        ({"total": 64 * MIB - 1, "requested": MIB}, "unknown"),
    ],
)
def test_parts_of_a_program_of_xla(parsed, why):
    assert judge(reading("jax", "jax", **parsed), {}).why == why


@pytest.mark.parametrize(
    ("capacity", "loaded", "context", "why"),
    [
        (100, 49, 16_384, "metal.context"),
        (100, 50, 16_384, "unknown"),
        (100, 49, 16_383, "unknown"),
    ],
)
def test_a_long_context_on_a_mac(capacity, loaded, context, why):
    found = OomReading(
        "ggml-metal",
        "llama.cpp",
        {"capacity_bytes": capacity, "allocated_bytes": loaded, "n_ctx": context},
    )
    assert judge(found, {}).why == why


@pytest.mark.parametrize(("asked", "there", "why"), [(7, 7, "pool.room"), (8, 7, "pool")])
def test_a_pool_of_sglang_that_has_room(asked, there, why):
    found = OomReading("sglang", "sglang", {"requested_tokens": asked, "available_tokens": there})
    assert named(judge(found, {})) == why


# Sums of figures


@all_of(
    ("parsed", "unallocated", "held"),
    [
        ({"allocated": 20, "unallocated": 3, "reserved": 99}, 3, 23),
        ({"allocated": 20, "reserved": 24}, 4, 24),
        ({"allocated": 20, "reserved": 19}, 0, 20),
        ({"allocated": 20, "private_pool": 5}, None, 25),
        ({"allocated": 20, "unallocated": 3, "private_pool": 5}, 3, 23),  # which is within
        ({"reserved": 24}, None, None),
    ],
)
def test_what_torch_holds(parsed, unallocated, held):
    found = reading(**parsed)
    assert (figures.unallocated(found), figures.in_process(found)) == (unallocated, held)


@all_of(
    ("parsed", "listed", "own", "others"),
    [
        ({"process": 30}, (), 30, 60),
        ({}, (19, 20, 25), 20, 70),  # the least that holds what torch does
        ({}, (19,), None, 70),  # then torch's own
        ({"process": 0}, (25,), None, 70),
        ({"process": 95}, (), 95, 0),
    ],
)
def test_what_is_ours_and_what_is_others(parsed, listed, own, others):
    """100 in all, 10 free, torch holds 20."""
    found = reading(capacity=100, free=10, allocated=20, **parsed)
    rows = [{"bytes": n} for n in listed]
    object.__setattr__(found, "parsed", {**found.parsed, "listed_processes": rows})
    assert (figures.own_process(found), figures.others(found)) == (own, others)


@all_of(
    ("free", "allocated", "said"),
    [(100, 5, False), (101, 0, True), (50, 55, False), (50, 56, True), (50, 101, False)],
)
def test_figures_that_cannot_both_be_true(free, allocated, said):
    """Parts of 100: rounded as they are they may come to 105; Windows moves what is held beyond it."""
    assert (
        bool(figures.contradictions(reading(capacity=100, free=free, allocated=allocated))) is said
    )


@all_of(
    ("held", "requested", "share"),
    [(49, 2, 50), (50, 1, 50), (49, 1, None), (46, 3, None), (94, 2, 95), (95, 10, 95), (4, 2, 5)],
)
def test_a_round_share_that_a_request_would_cross(held, requested, share):
    found = reading(capacity=100, allocated=held, requested=requested)
    assert figures.share_between(found) == share


# Beside a model


@all_of(
    ("printed", "nbytes", "agrees"),
    [
        (2 * GIB, 2 * GIB + GIB // 200 + 1, True),  # half of the last of two decimals
        (2 * GIB, 2 * GIB + GIB // 200 + 2, False),
        (GIB, GIB - GIB // 200 - 1, True),
        (GIB - 1, GIB - 1 - MIB // 200 - 2, False),
        (MIB, MIB + MIB // 200 + 1, True),
        (MIB - 1, MIB - 1 + 6, True),
        (MIB - 1, MIB - 1 + 7, False),
    ],
)
def test_figures_agree_to_half_of_their_last_digit(printed, nbytes, agrees):
    found = report(weights=1)
    found.derived["kv_cache_bytes_per_request"] = nbytes
    told = reconcile.matches(reading("vllm", "vllm", needed_kv=printed), found, model_of({}))
    assert ("needed" in {one.matches for one in told}) is agrees


def model_of(config):
    """A model of one part, of which nothing is known but its config."""
    part = SimpleNamespace(config=config, blueprint=SimpleNamespace(distinct=lambda: ()))
    return SimpleNamespace(parts=(part,))


def report(fits="no", usable=100, context=None, **components):
    parts = tuple(
        Component(name=n, bytes=exactly(b), basis="computed") for n, b in components.items()
    )
    device = Device(index=0, kind="gpu", phases=(Instant("step", parts),))
    return SimpleNamespace(
        devices=(device,),
        fullest=device,
        verdict=SimpleNamespace(fits=fits, usable_bytes=usable),
        workload={"context": context},
        derived={},
        task="infer",
    )


OPEN = Judged("activations", "full", "likely", ("logits",))


@all_of(
    ("found", "judged", "cause"),
    [
        (report(weights=91, logits=5), OPEN, "weights_too_big"),  # nine tenths of it
        (report(weights=90, logits=5), OPEN, "weights_too_big"),  # the largest of what does not fit
        (report(weights=40, logits=50), OPEN, "logits"),
        (report("yes", weights=90, logits=5), OPEN, "activations"),
        (report("yes", weights=91), OPEN, "weights_too_big"),
        (report(weights=91), Judged("logits", "place.logits", "likely"), "logits"),
        (report(weights=40, workspaces=50), OPEN, "activations"),  # of no cause
    ],
)
def test_what_fills_a_device(found, judged, cause):
    told = reconcile.rejudged(reading(place="logits"), judged, found, ())
    assert told.cause == cause
    if told is not judged:
        beside = tuple(one for one in ("activations", "logits") if one != cause)
        assert (told.sure, told.others) == ("computed", beside)


def test_what_has_the_size_of_a_request():
    """2 sequences of 100 tokens and 32,000 words in 4 bytes, and less the last token of each."""
    config = {"vocab_size": 32_000, "num_attention_heads": 1000}
    model = model_of(config)
    found = report(weights=1, kv_cache=20 * MIB)
    found.workload.update(batch_size=2, seq_len=100)

    def of(nbytes):
        asked = OomReading("vllm", "vllm", {"requested_bytes": nbytes})
        told = reconcile.matches(asked, found, model)
        return [one.component for one in told if one.matches == "request"]

    assert of(2 * 100 * 32_000 * 4) == of(2 * 99 * 32_000 * 4) == ["logits"]
    assert of(2 * 1000 * 100 * 100 * 2) == ["attention_matrix"]
    assert of(2 * 101 * 32_000 * 4) == []
    assert of(20 * MIB) == []  # requests up to 10 MiB get so many


def test_of_a_long_log_the_end_is_read(tmp_path, monkeypatch):
    """The last ten bytes, from the first whole line in them on."""
    monkeypatch.setattr(explain, "MOST", 10)
    log = tmp_path / "a.log"
    for text, end in (
        (b"0123456789", b"0123456789"),
        (b"head\n2345\nend", b"2345\nend"),
        (b"0123456789ab", b"23456789ab"),
    ):
        log.write_bytes(text)
        assert explain.from_file(log) == end


# Figures of what to change


def tags(found):
    return changes.tags_of(found, conclusions()["full"], {})


@pytest.mark.parametrize(
    ("sizes", "ranks"),
    [([9, 9], False), ([9, 9, 9], True), ([9, 9, 8, 8], True), ([9, 9, 8, 8, 7], False)],
)
def test_processes_of_equal_size_are_ranks(sizes, ranks):
    """Three at least, and each size twice."""
    found = OomReading("torch-2.1", "torch", {"listed_processes": [{"bytes": n} for n in sizes]})
    assert ("ranks" in tags(found)) is ranks


@pytest.mark.parametrize(
    ("capacity", "free", "share"),
    [(GIB, GIB // 2, "0.50"), (GIB, GIB // 10 + 1, "0.10"), (GIB, GIB // 10 - 1, None), (GIB - 1, GIB // 2, None)],
)  # fmt: skip
def test_the_share_that_is_free_now(capacity, free, share):
    found = reading("vllm-startup", "vllm", capacity=capacity, free=free)
    assert changes.figures(found, {}).get("fitting") == share
    assert tags(found) & {"fitting", "not_fitting"} == {"fitting" if share else "not_fitting"}
    other = reading("vllm-kv", "vllm", capacity=capacity, free=free)
    assert "fitting" not in changes.figures(other, {})


@all_of(
    ("wording", "windows", "allocator", "machine"),
    [
        ("torch-2.4..", False, {"expandable"}, {"not_windows"}),
        ("torch-2.4..", True, {"split"}, {"windows"}),
        ("torch-1.10..2.0", False, {"split"}, {"not_windows"}),
        ("torch-1.4..1.9", False, {"first"}, {"not_windows"}),
        ("windows-commit", False, set(), {"windows"}),
        ("jax", False, set(), {"not_windows"}),
    ],
)
def test_what_a_program_can_be_told(wording, windows, allocator, machine):
    found = OomReading(wording, "torch", {}, windows=windows)
    told = {"expandable", "split", "first", "windows", "not_windows"}
    assert tags(found) & told == allocator | machine


def of_cache(needed):
    """vLLM's words that a cache of 1,000 tokens needs so many bytes, of which 100 are there."""
    found = reading("vllm", "vllm", needed_kv=needed, available_kv=100)
    object.__setattr__(found, "parsed", {**found.parsed, "max_model_len": 1000})
    return found


@pytest.mark.parametrize(
    ("needed", "length", "kinds"),
    [
        (125, 50 * 16, {"near", "half_fits"}),  # 800 tokens; a quarter more would do
        (130, 48 * 16, {"half_fits"}),  # 769
        (200, 31 * 16, {"half_fits"}),  # 500; twice as much would do
        (201, 31 * 16, set()),
    ],
)
def test_the_longest_request_that_a_cache_holds_in_blocks_of_16(needed, length, kinds):
    found = of_cache(needed)
    assert changes.figures(found, {})["length"] == length
    assert tags(found) & {"near", "half_fits"} == kinds


@pytest.mark.parametrize(("sequences", "half"), [(9, 4), (1, 1), (None, None), ("9", None)])
def test_half_of_the_sequences_is_one_at_least(sequences, half):
    assert changes.figures(reading(), {"max_num_seqs": sequences}).get("half_seqs") == half


def test_what_is_set_already_is_no_change():
    text = (
        "with --kv-cache-dtype fp8\nTo serve at least one request with the models's max seq len "
        "(2000), (2.00 GiB KV cache is needed, which is larger than the available KV cache memory "
        "(1.50 GiB)."
    )
    asked = explain.explained(text, None, {}).remedies
    without = explain.explained(text.replace("fp8", "auto"), None, {}).remedies
    assert "--kv-cache-dtype fp8" not in [change.paste for change in asked]
    assert "--kv-cache-dtype fp8" in [change.paste for change in without]


VISION = """\
CUDA out of memory
  File "/lib/vllm/model_executor/models/qwen2_5_vl.py", line 728, in forward
    hidden_states = blk(
"""


def test_a_vision_encoder_that_fails_is_told_and_its_pictures_are_limited():
    found = explain.explained(VISION, None, {})
    assert found.cause == "vision_encoder"
    assert found.remedies[0].paste == "--mm-processor-kwargs '{\"max_pixels\": 1003520}'"
    other = explain.explained(VISION.replace("qwen2_5_vl", "qwen2"), None, {})
    assert other.cause != "vision_encoder"


@pytest.mark.parametrize(("ram", "paste"), [(None, "SIZE"), ("160GiB", "320g")])
def test_a_container_gets_twice_the_memory_that_it_had(ram, paste):
    found = explain.explained("it was OOMKilled", None, {"ram": ram} if ram else {})
    assert f"--memory={paste} --shm-size=16g" in [change.paste for change in found.remedies]


@pytest.mark.slow
def test_weights_that_fit_alone_are_not_blamed_for_a_training():
    text = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 0 has a "
        "total capacity of 23.69 GiB of which 190.00 MiB is free. Including non-PyTorch memory, "
        "this process has 23.50 GiB memory in use. Of the allocated memory 22.80 GiB is allocated "
        "by PyTorch, and 300.00 MiB is reserved by PyTorch but unallocated."
    )
    asked = {"task": "train", "method": "lora", "batch_size": 2, "seq_len": 8192}
    found = weighbridge.explain_oom(text, "llama-3.1-8b", **asked)
    assert found.cause == "activations"
    assert [m.formula for m in found.explained if m.matches == "request"] == [
        "2 x 8,192 tokens x 14,336 x 2 B"
    ]


# Messages of 2026: their words from each program's source, their figures by hand

GPU = "GPU 0 has a total capacity of {} GiB of which {} MiB is free. "
MINE = "Of the allocated memory {} GiB is allocated by PyTorch, and {} MiB is reserved by PyTorch but unallocated."
ASKED = "CUDA out of memory. Tried to allocate {}. "
FULL = GPU.format("79.15", "12.00") + MINE.format("78.20", "80.00")


def cause(text, **settings):
    found = weighbridge.explain_oom(text, **settings)
    return found.judged.cause, found.judged.sure


def test_vllms_own_words_that_weights_do_not_load_win_over_the_figures():
    """vllm/v1/worker/gpu_model_runner.py load_model: 93 MiB free, 84 were refused: a full card."""
    inner = (
        ASKED.format("84.00 MiB") + GPU.format("31.35", "90.00") + MINE.format("29.40", "309.00")
    )
    text = f"Failed to load model - not enough GPU memory. (original error: {inner})"
    assert cause(text) == ("weights_too_big", "said")
    assert weighbridge.explain_oom(inner).judged.cause == "activations"


@pytest.mark.parametrize(
    ("line", "known"),
    [("accelerate launch a.py --train_batch_size=2", "activations"), ("", "weights_too_big")],
)
def test_what_trains_is_full_of_its_steps_and_not_of_weights_that_load(line, known):
    text = f"{line}\ntorch.OutOfMemoryError: {ASKED.format('26.00 MiB')}{FULL}"
    assert cause(text) == (known, "likely")


@all_of(
    ("asked", "gpu", "why"),
    [
        ("80.01 GiB", "a100-80gb", "one_tensor"),
        ("79.00 GiB", "a100-80gb", "unknown"),
        ("182.28 GiB", None, "unknown"),  # a B300 has more
        ("300.00 GiB", None, "one_tensor"),
        ("300.00 GiB", "no-such-card", "one_tensor"),
    ],
)
def test_a_tensor_larger_than_any_card_is_one_where_no_capacity_is_printed(asked, gpu, why):
    found = weighbridge.explain_oom(f"torch.OutOfMemoryError: {ASKED.format(asked)}", gpu=gpu)
    assert found.judged.why == why


def test_a_card_of_its_maker_is_the_largest():
    """AMD has cards of 432 GiB, NVIDIA none above 278."""
    told = "torch.OutOfMemoryError: {} out of memory. Tried to allocate 400.00 GiB."
    whys = [weighbridge.explain_oom(told.format(name)).judged.why for name in ("CUDA", "HIP")]
    assert whys == ["one_tensor", "unknown"]


@pytest.mark.parametrize(
    ("theirs", "named_too"),
    [(20 * GIB, True), (20 * GIB - 1, False), (25 * GIB - 1, True)],
)
def test_others_with_a_fifth_of_the_card_may_be_to_blame(theirs, named_too):
    mine = 95 * GIB - theirs
    judged = judge(reading(**full(allocated=mine, requested=5 * GIB, unallocated=GIB)), {})
    assert (judged.cause, judged.others[0] == "other_process") == ("activations", named_too)


def test_others_who_are_to_blame_are_not_named_twice_nor_for_less_than_a_context():
    judged = judge(reading(**full(allocated=70 * GIB, requested=5 * GIB)), {})
    assert (judged.cause, "other_process" in judged.others) == ("other_process", False)
    small = reading(capacity=4 * GIB, allocated=3 * GIB, free=GIB // 8, requested=GIB)
    assert "other_process" not in judge(small, {}).others


POOL = "Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static={}. "
RAISED = "Raise --mem-fraction-static above {} (minimum viable = 1 - available/pre = {}0)."


@pytest.mark.parametrize(
    ("share", "least", "known"),
    [("0.6", "0.700", "utilization_set_too_low"), ("0.88", "1.020", "weights_too_big")],
)
def test_sglang_says_which_share_would_leave_a_cache(share, least, known):
    """sglang/srt/model_executor/model_runner_kv_cache_mixin.py."""
    found = weighbridge.explain_oom(POOL.format(share) + RAISED.format(least, least))
    assert (found.judged.cause, found.judged.sure) == (known, "likely")
    assert (found.parsed["utilization"], found.parsed["least_share"]) == (
        float(share),
        float(least),
    )


def test_sglang_profiles_fewer_tokens_than_none():
    line = "[DP7 TP7] max_total_tokens=65536 is larger than the profiled value {}. Use it instead."
    found = weighbridge.explain_oom(line.format("-52011"))
    assert (found.judged.cause, found.parsed["profiled_tokens"]) == ("weights_too_big", -52011)
    with pytest.raises(BadFileError):
        weighbridge.explain_oom(line.format("52011"))


@pytest.mark.parametrize(
    "text",
    [
        "torch.OutOfMemoryError: Allocation on device \n\nGot an OOM, unloading all loaded models.",
        "Got an OOM, unloading all loaded models.",
    ],
)
def test_comfyui_moves_its_weights_itself(text):
    """execution.py of ComfyUI."""
    assert cause(text) == ("activations", "likely")
    decoding = f'  File "nodes.py", line 1, in VAEDecode\n{text}'
    assert cause(decoding)[0] == "vae_decode"


UNSLOTH = """\
==((====))==  Unsloth - 2x faster free finetuning | Num GPUs used = 1
O^O/ \\_/ \\    Batch size per device = 1 | Gradient accumulation steps = 8
 "-____-"     Trainable parameters = 2,100,000,000 of 8,730,000,000 (24.05% trained)
torch.OutOfMemoryError: """


def test_unsloths_banner_is_read_and_its_own_values_are_not_advised():
    text = UNSLOTH + ASKED.format("26.00 MiB") + FULL
    found = weighbridge.explain_oom(text)
    assert found.reading.stated == {"batch_size": 1, "gradient_accumulation": 8}
    assert found.judged.cause == "activations"
    assert not [c for c in found.remedies if c.change.get("batch_size") == 1]
    two = weighbridge.explain_oom(text.replace("device = 1", "device = 2"))
    assert [c for c in two.remedies if c.change.get("batch_size") == 1]


def test_unsloth_asks_in_steps_between_powers_of_two():
    """2.5 GiB and a byte: steps of 64 MiB from 2 GiB on; plain segments are of 2 MiB."""
    tensor = 5 * GIB // 2 + 2
    found = report(weights=1, kv_cache=tensor)

    def is_cache(wording, engine, requested):
        asked = reading(wording, engine=engine, requested=requested)
        told = reconcile.matches(asked, found, model_of({}))
        return "request" in {one.matches for one in told}

    plain, stepped = 5 * GIB // 2 + 2 * MIB, 5 * GIB // 2 + 64 * MIB
    apart = GIB // 200 + 1  # half of the last digit that is printed
    for wording, engine, nbytes in (
        (TORCH, "trainer", plain),
        (TORCH, "unsloth", stepped),
        ("torch-cpu", "trainer", tensor),
    ):
        assert is_cache(wording, engine, nbytes + apart)
        assert not is_cache(wording, engine, nbytes + apart + 1)
    assert is_cache(TORCH, "unsloth", plain)
    assert not is_cache(TORCH, "trainer", stepped)


NPU = "NPU out of memory. Tried to allocate {} (NPU 0; 60.97 GiB total capacity; {} GiB already allocated; 1.02 GiB free; 58.50 GiB reserved in total by PyTorch)"


def test_an_npu_has_no_bitsandbytes_and_modules_of_its_own():
    lines = [
        change.paste
        for place in ("load_model(", "optimizer.step(")
        for change in weighbridge.explain_oom(
            f"{place}\nRuntimeError: {NPU.format('2.00 GiB', '57.62')}"
        ).remedies
    ]
    assert lines and not [line for line in lines if "bnb" in line or "adamw_8bit" in line]
    pieces = weighbridge.explain_oom(f"RuntimeError: {NPU.format('6.00 GiB', '48.00')}")
    assert pieces.judged.cause == "fragmentation"
    assert "torch.npu.empty_cache()" in [change.paste for change in pieces.remedies]


def comfy(*lines, error="torch.OutOfMemoryError: Allocation on device"):
    return weighbridge.explain_oom("\n".join((*lines, error, "")))


@all_of(
    ("lines", "cause", "why"),
    [
        (("Requested to load FluxClipModel_",), "weights_too_big", "comfyui.encode"),
        (("Requested to load WanTEModel", "0 models unloaded."), "weights_too_big",
         "comfyui.encode"),
        (("Requested to load FluxClipModel_", "loaded completely 9.53e+25 4777.53 True",
          "Requested to load Flux", "loaded partially 5949.68 5949.23 0"), "activations",
         "comfyui.partly"),
        (("Requested to load Flux2", "loaded partially; 4821.43 MB usable, 4050.79 MB loaded"),
         "activations", "comfyui.partly"),
        (("Requested to load Flux", "loaded completely 0.0 11350.05 True",
          "Requested to load AutoencodingEngine"), "vae_decode", "comfyui.decode"),
        (("Requested to load WanVAE", "Model WanVAE prepared for dynamic VRAM loading. 242MB"),
         "vae_decode", "comfyui.decode"),
    ],
)  # fmt: skip
def test_comfyuis_log_tells_the_stage(lines, cause, why):
    for error in (
        "torch.OutOfMemoryError: Allocation on device",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.25 GiB.",
    ):
        found = comfy(*lines, error=error)
        assert (found.judged.cause, found.judged.why) == (cause, why)


def test_what_helps_in_comfyui_is_a_node_or_its_flag():
    encode, decode = comfy("Requested to load SD3ClipModel"), comfy("Requested to load WanVAE")
    assert [c.paste for c in encode.remedies if c.paste] == ["python main.py --novram"]
    assert [c.change for c in decode.remedies] == [{"vae": "tiled"}]
    step = comfy("Requested to load WAN21", "loaded partially 3753.10 3753.10 0")
    assert {"frames": "fewer"} in [c.change for c in step.remedies]
    assert step.reading.parsed["in_part_bytes"] == pytest.approx(3753.1 * MIB, abs=2)


ACTOR = """  File "/verl/verl/workers/actor/dp_actor.py", line 266, in _forward_micro_batch
    entropy = verl_F.entropy_from_logits(logits)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 13.91 GiB. GPU 0 has a total \
capacity of 79.11 GiB of which 8.85 GiB is free. Process 23444 has 70.25 GiB memory in use."""
WAKING = """  File "/verl/verl/workers/sharding_manager/fsdp_vllm.py", line 79, in __enter__
    self.inference_engine.wake_up()
  File "/site-packages/vllm/device_allocator/cumem.py", line 71, in create_and_map
RuntimeError: CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62"""


@pytest.mark.parametrize(
    ("text", "cause", "setting"),
    [  # verl-project/verl#2828 and #302: a server's flags change nothing in a trainer's run
        (ACTOR, "logits", "loss"),
        (WAKING, "utilization_set_too_high", "gpu_memory_utilization"),
    ],
)
def test_a_trainer_that_starts_a_server_is_told_its_own_keys(text, cause, setting):
    found = read(text)
    judged = judge(found, {})
    told = changes.changes(found, judged, {})
    assert (found.engine, judged.cause) == ("verl", cause)
    assert setting in told[0].change
    assert all(change.paste.startswith("actor_rollout_ref.") for change in told)
    assert not any("{" in change.paste for change in told)
    names = [tuple(change.change) for change in told]
    assert len(names) == len(set(names))
    server = read(text.replace("verl", "vllm"))
    assert not any(
        "actor" in change.paste for change in changes.changes(server, judge(server, {}), {})
    )


WARNED = """[WARNING] Generating with a model that requires 11516 MB which is close to the maximum \
recommended size of 12124 MB. This can be slow."""
METAL = "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommand"


def test_mlx_is_told_what_mlx_takes():
    """ml-explore/mlx-lm issue 644: a Mac mini of 16 GB, and llama.cpp with 12 layers' experts left to
    the CPU ran there. mlx prints "[METAL]" before the error, llama.cpp does not."""
    found = read(f"mlx_lm.chat --model a/gpt-oss-20b-MXFP4-Q8\n{WARNED}\n{METAL}BufferCallback)")
    judged = judge(found, {})
    assert (found.wording, judged.cause) == ("mlx-metal", "weights_too_big")
    assert judged.figures == {"weights": 11_516 * MIB, "limit": 12_124 * MIB}
    told = changes.changes(found, judged, {})
    assert [one.change for one in told] == [{"engine": "llama.cpp"}, {"wired_limit": 14_144}]
    assert told[1].paste == "sudo sysctl iogpu.wired_limit_mb=14144"
    unwarned = judge(alone := read(f"error: {METAL})"), {})
    assert unwarned.cause is None and unwarned.others[0] == "kv_cache_too_big"
    pastes = [one.paste for one in changes.changes(alone, unwarned, {})]
    assert pastes[:2] == ["--max-kv-size 8192", "--prefill-step-size 512"]
    assert read("error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
    ).tool == "llama.cpp"  # fmt: skip


FILLED = """torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 128.00 MiB. GPU 0 has a total \
capacity of 11.63 GiB of which 21.56 MiB is free. Including non-PyTorch memory, this process has \
11.07 GiB memory in use. Of the allocated memory 10.85 GiB is allocated by PyTorch, and 10.22 MiB \
is reserved by PyTorch but unallocated."""


@pytest.mark.parametrize(
    ("line", "settings"),
    [  # FlashML-org/FreeToken issue 168: a smaller reserve of its cache served on that card
        ("ft serve --model a/b-NVFP4 --kv-reserve-tokens 131072", [("cache_share",)]),
        ("python run.py --model a/b", [("quantization",), ("device_map",), ("offload",)]),
        ("vllm serve a/b-NVFP4 --port 1", [("tensor_parallel_size",), ("cpu_offload_gb",)]),
    ],
)
def test_a_server_that_is_not_known_is_told_no_call_of_python(line, settings):
    found = read(f"{line}\n{FILLED}")
    judged = judge(found, {})
    assert judged.cause == "weights_too_big"
    assert [tuple(one.change) for one in changes.changes(found, judged, {})] == settings


@pytest.mark.parametrize(
    ("lines", "tool"),
    [  # ggml-cuda.cu prints the driver's error as PyTorch words it
        (
            "CUDA error: out of memory\n./llama-server -m a-00001-of-00004.gguf -c 262144",
            "llama.cpp",
        ),
        (
            "CUDA error: out of memory\n  current device: 0, in function alloc at a.cu:1",
            "llama.cpp",
        ),
        ("llama-server works, and this: RuntimeError: CUDA error: out of memory", "torch"),
        ("it says CUDA error: out of memory", "torch"),
    ],
)
def test_a_bare_error_is_of_the_program_whose_lines_stand_beside_it(lines, tool):
    found = read(lines)
    assert (found.wording, found.tool) == ("cuda-error", tool)
    pastes = [one.paste for one in changes.changes(found, judge(found, {}), {})]
    assert any(paste.startswith("-") for paste in pastes) == (tool == "llama.cpp")
