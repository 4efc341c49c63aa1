"""What would make it fit: every remedy holds what it promises, and touches nothing that is pinned."""

import json
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weighbridge
from tests import trainer_lines
from tests.cases import each, examples
from weighbridge.answers.questions.requests import Requests
from weighbridge.answers.remedies import RemedyCase, said
from weighbridge.answers.remedies.case import moves
from weighbridge.answers.remedies.searching import ASKS
from weighbridge.answers.remedies.sets import MoveSet, asked, hopeless
from weighbridge.base.errors import WeighbridgeError
from weighbridge.engines.launch import parse

MOST = 6
SOME = settings(
    max_examples=examples(3, night=8),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
prepared = cache(weighbridge.prepare)


def changes(report):
    return [dict(r.change) for r in report.remedies]


def answer(model, task, workload, **more):
    return getattr(prepared(model), task)(**workload, **more)


def holds(model, task, workload, report):
    """Every remedy of a report, asked like any other question."""
    for remedy in report.remedies:
        again = answer(model, task, {**workload, **remedy.change}, remedies=False)
        assert again.peak.expected == remedy.peak_bytes, remedy.change
        assert again.verdict.fits == remedy.fits, remedy.change
        assert again.verdict.margin_bytes == remedy.margin_bytes, remedy.change
        assert again.verdict.per_device == remedy.per_device, remedy.change
        assert remedy.cost, "it says what it costs"
        assert remedy.source, "it says where that is written"


def ordered(report):
    points = [r.price.points for r in report.remedies if r.fits == "yes"]
    assert points == sorted(points)
    assert len(report.remedies) <= MOST


def untouched(report, workload):
    pinned = workload.keys() - {"gpu", "ram"}
    for change in changes(report):
        assert not pinned & change.keys()


# What people must be offered


@pytest.mark.slow
def test_a_card_without_room_is_offered_smaller_weights_and_llama_cpp():
    workload = {"gpu": "3060"}
    report = answer("llama-3.1-8b", "infer", workload)
    assert {"quantization", "engine"} <= {r.kind for r in report.remedies}
    assert {"quantization": "nf4"} in changes(report)
    holds("llama-3.1-8b", "infer", workload, report)


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["3060", "4070", "3080 12gb"])
def test_experts_stay_on_the_host_where_the_card_is_small(gpu):
    """With the RAM for them: without a word of it they are no tick."""
    workload = {"gpu": gpu, "engine": "llama.cpp", "engine_version": "7300"}
    unsaid = answer("mixtral-8x7b", "infer", workload)
    assert not any("n_cpu_moe" in r.change and r.fits == "yes" for r in unsaid.remedies)
    holds("mixtral-8x7b", "infer", workload, unsaid)
    workload["ram"] = "128GiB"
    report = answer("mixtral-8x7b", "infer", workload)
    assert any("n_cpu_moe" in r.change and r.fits == "yes" for r in report.remedies)
    holds("mixtral-8x7b", "infer", workload, report)


@pytest.mark.slow
def test_experts_on_the_host_are_offered_under_another_engine_too():
    report = answer("mixtral-8x7b", "infer", {"gpu": "3060", "ram": "64GB"})
    best = report.remedies[0]
    assert best.change["engine"] == "llama.cpp"
    assert best.fits == "yes"
    assert "layers run on the processor: slower" in best.cost


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["a100-80gb:2", "h100:2"])
def test_a_command_on_one_of_two_cards_is_offered_nf4_and_tensor_parallel(gpu):
    command = "vllm serve meta-llama/Llama-3.1-70B --max-model-len 4096"
    asked = {"gpu": gpu, "engine_version": "0.27"}  # which reads it
    report = weighbridge.infer(command=command, **asked)
    assert {"tensor_parallel_size": 2} in changes(report)
    assert {"quantization": "bitsandbytes"} in changes(report)
    for remedy in report.remedies:
        again = weighbridge.infer(command=command, **asked, **remedy.change)
        assert (again.peak.expected, again.verdict.fits) == (remedy.peak_bytes, remedy.fits)


@pytest.mark.slow
def test_experts_that_bitsandbytes_leaves_alone_are_packed_by_an_older_release():
    workload = {"method": "qlora", "gpu": "a100-40gb"}
    report = answer("mixtral-8x7b", "train", workload)
    holds("mixtral-8x7b", "train", workload, report)
    first = report.remedies[0]
    assert (dict(first.change), first.fits) == ({"engine_version": "4.57"}, "yes")
    assert first.price.money == 0 < report.remedies[1].price.money


@pytest.mark.slow
def test_experts_in_stacks_are_packed_by_unsloths_copy_where_it_has_one():
    """Unsloth trained it in 13.0 GiB (tests/kaggle/t4_smoke/measured_vram.json)."""
    workload = {"method": "qlora", "gpu": "4090"}
    report = answer("gpt-oss-20b", "train", workload)
    holds("gpt-oss-20b", "train", workload, report)
    first = report.remedies[0]
    assert (dict(first.change), first.fits) == ({"framework": "unsloth"}, "yes")
    named = answer("gpt-oss-20b", "train", {**workload, "framework": "trl"})
    assert {"framework": "unsloth"} not in changes(named)
    whole = weighbridge.train("gpt-oss-20b", method="lora", gpu="3090")  # which is packed, too
    assert (dict(whole.remedies[0].change), whole.remedies[0].fits) == (
        {"framework": "unsloth", "quantization": "nf4"},
        "yes",
    )
    plain = weighbridge.train("gpt-oss-20b", method="lora", dtype="bfloat16", gpu="3090")
    assert not any("framework" in change for change in changes(plain))


@pytest.mark.slow
def test_two_small_cards_are_offered_four_bits_that_both_hold():
    report = answer("llama-3.1-70b", "infer", {"gpu": "4090:2", "engine": "vllm"})
    assert report.workload["tensor_parallel_size"] == 2
    shared = [r for r in report.remedies if "gpu" not in r.change]
    offered = {r.change.get("quantization") for r in shared}
    assert {"awq-4bit-g128", "gptq-4bit-g128"} & offered
    assert "bitsandbytes" not in offered  # which left vLLM with 0.28
    assert any(r.fits == "yes" for r in shared)


@pytest.mark.slow
def test_qlora_is_offered_what_a_single_change_does_not_give():
    workload = {"gpu": "3060", "method": "qlora", "framework": "trainer"}
    report = answer("llama-3.1-8b", "train", workload)
    best = report.remedies[0]
    assert best.fits == "yes"
    assert best.change.get("checkpointing") == "full"
    holds("llama-3.1-8b", "train", workload, report)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "length", "offered"), [("qwen3-vl-8b", 8192, True), ("granite-3.3-8b", 16384, False)]
)
def test_liger_is_offered_where_it_fuses_the_head_with_the_loss(model, length, offered):
    """liger-kernel 0.8.5: for image models as for others, and not for Granite."""
    workload = {"gpu": "4090", "method": "lora", "framework": "trainer", "checkpointing": "full"}
    workload |= {"seq_len": length}
    report = answer(model, "train", workload)
    assert report.remedies
    assert any("loss" in c for c in changes(report)) is offered


@pytest.mark.slow
def test_ranks_share_out_what_one_cannot_hold():
    workload = {"gpu": "h100:8", "method": "full"}
    report = answer("llama-3.1-8b", "train", workload)
    assert {"shard": "fsdp2"} in changes(report)
    holds("llama-3.1-8b", "train", workload, report)


@pytest.mark.slow
def test_a_batch_is_split_and_stays_as_large():
    workload = {"gpu": "4090", "method": "lora", "checkpointing": "full", "loss": "liger"}
    free = [*workload, "seq_len"]
    report = answer(
        "llama-3.1-8b", "train", {**workload, "batch_size": 16, "seq_len": 4096}, pinned=free
    )
    split = [c for c in changes(report) if "batch_size" in c]
    assert split
    assert all(c["batch_size"] * c["gradient_accumulation"] == 16 for c in split)


# Laws


SERVED = st.fixed_dictionaries(
    {
        "engine": st.sampled_from(["transformers", "vllm", "sglang", "llama.cpp"]),
        "gpu": st.sampled_from(["3060", "4090", "t4", "l4", "4090:2", "a100-80gb:2", "h100:4"]),
    },
    optional={
        "context": st.sampled_from([1024, 8192, 40_000]),
        "batch_size": st.sampled_from([2, 16]),
        "ram": st.sampled_from(["16GiB", "256GiB"]),
    },
)
TRAINED = st.fixed_dictionaries(
    {"gpu": st.sampled_from(["3060", "4090", "t4", "a100-40gb", "4090:2", "h100:4"])},
    optional={
        "method": st.sampled_from(["full", "lora", "qlora"]),
        "framework": st.sampled_from(["trainer", "trl"]),
        "batch_size": st.sampled_from([2, 8]),
        "seq_len": st.sampled_from([1024, 4096]),
        "lora_r": st.just(64),
        "optimizer": st.just("adamw_torch_fused"),
        "precision": st.sampled_from(["fp32", "bf16-mixed"]),
        "attention": st.sampled_from(["eager", "efficient"]),
    },
)
MODELS = (
    *("llama-3.1-8b", "mixtral-8x7b", "qwen3-0.6b", "gemma-3-27b", "deepseek-v2-lite", "gpt2"),
    *("qwen2.5-vl-7b", "mamba-2.8b", "phi-3-mini-4k", "llama-3.1-70b", "qwen3-30b-a3b"),
)


def checked(model, task, workload):
    """The answer; None where the question itself is refused."""
    try:
        report = answer(model, task, workload)
    except WeighbridgeError:
        return None
    holds(model, task, workload, report)
    ordered(report)
    untouched(report, workload)
    if report.verdict.fits == "yes":
        assert report.remedies == ()
    return report


@pytest.mark.slow
@SOME
@given(st.sampled_from([m for m in MODELS if m in weighbridge.models.catalogue.names()]), SERVED)
def test_what_is_promised_of_serving_is_what_the_changed_question_gives(model, workload):
    report = checked(model, "infer", workload)
    if report is None:
        return
    for remedy in report.remedies:
        pasted(model, workload, remedy)


@pytest.mark.slow
@SOME
@given(st.sampled_from([m for m in MODELS if m in weighbridge.models.catalogue.names()]), TRAINED)
def test_what_is_promised_of_training_is_what_the_changed_question_gives(model, workload):
    report = checked(model, "train", workload)
    if report is None:
        return
    for remedy in report.remedies:
        trained(model, workload, remedy)


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["3060", "t4", "4060", "2x RTX 3060"])
def test_what_is_promised_of_loading_is_what_the_changed_question_gives(gpu):
    for model in ("llama-3.1-8b", "qwen2.5-14b", "gpt2"):
        if model not in weighbridge.models.catalogue.names():
            continue
        report = checked(model, "load", {"gpu": gpu})
        for remedy in report.remedies:
            if remedy.paste:
                told = parse(remedy.paste).settings
                own = {n: told[n] for n in ("dtype", "quantization") if n in told}
                device = remedy.change.get("gpu", gpu)
                again = answer(model, "load", {**own, "gpu": device}, remedies=False)
                assert again.peak.expected == remedy.peak_bytes


# Lines to paste


def pasted(model, workload, remedy):
    """A line for a shell or for Python, parsed back on the same card."""
    if not remedy.paste:
        assert remedy.note
        return
    assert "\n" not in remedy.paste
    launch = parse(remedy.paste)
    assert launch.unknown == ()
    told = {**workload, **remedy.change}
    beside = {n: told[n] for n in ("gpu", "batch_size", "ram") if n in told}
    engine = told["engine"]
    line = remedy.paste.replace(launch.model, model)
    if engine == "llama.cpp":
        found = answer(model, "infer", {**told, "n_gpu_layers": None}, remedies=False)
        beside["quantization"] = found.workload["quantization"]
    if engine == "transformers" and "generate(" not in line:
        beside["context"] = told.get("context")
    again = prepared(model).infer(command=line, remedies=False, **beside)
    assert again.peak.expected == remedy.peak_bytes, remedy.paste


def trained(model, workload, remedy):
    """A script for the Trainer or TRL, read back on the same card."""
    if not remedy.paste:
        assert remedy.note
        return
    told = trainer_lines.settings(remedy.paste)
    device = {**workload, **remedy.change}["gpu"]
    again = prepared(model).train(**told, gpu=device, remedies=False)
    assert again.peak.expected == remedy.peak_bytes, remedy.paste
    assert trainer_lines.model(remedy.paste)


@pytest.mark.slow
@pytest.mark.parametrize(
    "workload",
    each(
        2,
        [
            {"gpu": "3060", "method": "qlora", "framework": "trainer"},
            {"gpu": "3060", "framework": "trl", "method": "lora"},
            {"gpu": "h100:2", "method": "full"},
            {"gpu": "4090", "method": "full", "seq_len": 512},
            {"gpu": "4090", "method": "lora", "attention": "eager", "batch_size": 4},
            {"gpu": "a100-40gb:4", "framework": "trl"},
        ],
    ),
    ids=str,
)
def test_scripts_for_trainers_are_read_back(workload):
    report = answer("llama-3.1-8b", "train", workload)
    assert report.remedies
    assert any(r.paste for r in report.remedies)
    for remedy in report.remedies:
        trained("llama-3.1-8b", workload, remedy)


@pytest.mark.slow
def test_what_a_framework_cannot_be_told_in_a_script_is_said():
    report = answer("llama-3.1-8b", "train", {"gpu": "3090", "framework": "torchtune"})
    assert report.remedies
    assert all("no script: torchtune" in r.note for r in report.remedies)


# Nothing cheaper is left out


def case_of(model, task, workload):
    """The question, and what a search sees of it."""
    report = answer(model, task, workload, remedies=False)
    record = weighbridge.workload.read(task, workload)

    def ask(changed):
        given = weighbridge.answers.questions.question.question(task, changed, {}).workload
        return getattr(prepared(model), task)(given, remedies=False)

    return RemedyCase(task=task, workload=record, report=report, ask=ask, pinned=said(record))


GRID = [
    (model, task, {**more, "gpu": gpu})
    for model, task, more in (
        ("llama-3.1-8b", "infer", {"engine": "transformers", "context": 32_768}),
        ("llama-3.1-8b", "infer", {"engine": "vllm", "batch_size": 32}),
        ("mixtral-8x7b", "infer", {"engine": "llama.cpp", "engine_version": "7300"}),
        ("llama-3.1-70b", "load", {}),
        ("qwen3-0.6b", "train", {"batch_size": 8, "seq_len": 4096}),
        ("llama-3.1-8b", "train", {"method": "lora", "seq_len": 1024}),
    )
    for gpu in ("3060", "a100-40gb")
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "task", "workload"), each(2, GRID), ids=str)
def test_no_cheaper_single_change_is_left_out(model, task, workload):
    """Brute force: every single change is asked, those that the search thought hopeless too."""
    case = case_of(model, task, workload)
    if case.verdict.fits == "yes":
        return
    told = answer(model, task, workload).remedies
    points = [r.price.points for r in told if r.fits == "yes" and not r.price.money]
    dearest = max(points, default=float("inf"))
    stepped = set()
    for move in moves(case):
        found = asked(MoveSet((), case), (move,))
        if found is None or found.fits != "yes" or move.kind in stepped:
            continue
        stepped |= {move.kind} if move.graded else set()
        assert not hopeless(case, (move,)), move.change
        if move.points < dearest and len(told) < MOST:
            assert any(within(r, move, found) for r in told), move.change


LEFT = [
    (model, {"gpu": gpu, **settings})
    for model, every in {
        "qwen3-0.6b": (
            {"precision": "fp32"},
            {"precision": "bf16"},
            {"shard": "zero2"},
            {"shard": "zero3"},
            {"method": "lora"},
            {"framework": "trl", "batch_size": 8},
        ),
        "llama-3.1-8b": ({}, {"method": "lora"}, {"method": "qlora"}),
        "qwen3-30b-a3b": ({}, {"method": "lora"}, {"method": "qlora"}),
    }.items()
    for settings in every
    for gpu in ("3060", "3060:4")
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "workload"), each(3, LEFT), ids=str)
def test_what_surely_remains_after_a_change_of_ranks_does(model, workload):
    """The bytes that a change is said to leave are there in its answer."""
    case = case_of(model, "train", workload)
    for move in moves(case):
        if move.kind not in ("sharding", "offload", "precision", "upcast", "quantization"):
            continue
        found = asked(MoveSet((), case), (move,))
        if found is not None:
            every = (sum(c.bytes.low for c in phase.components) for phase in found.case._phases)
            assert case.least((move,)) <= max(every), move.change


def within(remedy, move, found):
    """Whether a remedy is that change, or one that is as cheap, of its kind or smaller."""
    if dict(remedy.change) == dict(move.change):
        return True
    cheaper = remedy.price.points <= move.points
    return cheaper and (remedy.kind == move.kind or remedy.peak_bytes <= found.peak)


@pytest.mark.slow
def test_the_search_asks_few_questions(monkeypatch):
    from weighbridge.answers.remedies import searching

    seen = []
    honest = searching.asked
    monkeypatch.setattr(searching, "asked", lambda *a: (seen.append(a), honest(*a))[1])
    for workload in (
        {"method": "qlora", "seq_len": 16384},
        {"method": "lora"},
        {"method": "full"},
        {},
    ):
        seen.clear()
        answer("llama-3.1-8b", "train", {"gpu": "3060", **workload})
        assert 0 < len(seen) <= ASKS["train"]


# Where they are, and where not


@pytest.mark.slow
def test_nothing_is_said_where_it_fits_or_where_nobody_asks():
    model = prepared("llama-3.1-8b")
    assert model.infer(gpu="h100").remedies == ()
    assert model.infer().remedies == ()
    assert model.infer(gpu="3060", remedies=False).remedies == ()


def test_what_was_given_by_name_stays():
    report = answer(
        "llama-3.1-8b",
        "infer",
        {"gpu": "3060", "engine": "transformers", "context": 4096, "dtype": "bfloat16"},
    )
    for change in changes(report):
        assert not {"engine", "context", "dtype", "quantization"} & change.keys()


@pytest.mark.slow
def test_pinned_may_be_named_apart():
    """`fit` asks with a method that nobody typed."""
    free = prepared("llama-3.1-8b").train(gpu="3060", method="lora", pinned=())
    assert any(c.get("method") == "qlora" for c in changes(free))
    kept = prepared("llama-3.1-8b").train(gpu="3060", method="lora")
    assert not any("method" in c for c in changes(kept))


@pytest.mark.slow
def test_a_request_may_leave_them_out():
    request = {"task": "infer", "model": "llama-3.1-8b", "workload": {"gpu": "3060"}}
    told = Requests().answer(json.dumps(request))["remedies"]
    assert told
    keys = {"source", "paste", "note", "margin_bytes", "per_device", "price", "kind"}
    assert keys <= told[0].keys()
    json.dumps(told)
    assert Requests().answer(json.dumps({**request, "remedies": False}))["remedies"] == []
    refused = Requests().answer(json.dumps({**request, "remedies": "no"}))
    told = "remedies is true or false, not 'no'"
    assert refused["error"] == {"code": 2, "message": told, "ground": "contradiction"}


@pytest.mark.slow
def test_a_command_keeps_its_own_flags():
    line = "vllm serve llama-3.1-8b --max-model-len 8192"
    report = weighbridge.infer(command=line, gpu="3060")
    assert report.remedies
    for remedy in report.remedies:
        assert "context" not in remedy.change
        assert "--max-model-len 8192" in remedy.paste or remedy.note


def test_nobody_adds_a_second_computer():
    """A Mac that is too small becomes a larger Mac, not two."""
    found = weighbridge.load("qwen3-30b-a3b", gpu="m3-max-64gb")
    assert [r.flags for r in found.remedies] == ["--gpu m4-max-128gb"]


@pytest.mark.slow
def test_ranks_share_a_base_in_four_bits_that_is_stored_as_a_float():
    asked = {"method": "qlora", "gpu": "4090:8"}
    model = weighbridge.prepare("llama-3.1-70b")
    remedy = model.train(**asked).remedies[0]
    assert remedy.change["bnb_4bit_quant_storage"] == "bfloat16"
    assert "bnb_4bit_quant_storage=torch.bfloat16" in remedy.paste
    applied = model.train(**asked, **remedy.change).verdict
    assert (applied.fits, applied.per_device.expected) == ("yes", remedy.peak_bytes)


# Flags and other devices; what a device can run


@pytest.mark.slow
def test_flags_are_joined_with_larger_cards_where_neither_is_enough():
    workload = {"gpu": "4090:2", "method": "qlora", "framework": "trainer", "ram": "40GiB"}
    report = answer("llama-3.1-70b", "train", workload, pinned=())
    best = report.remedies[0]
    assert best.fits == "yes"
    assert best.change["checkpointing"] == "full"
    assert best.change["bnb_4bit_quant_storage"] == "bfloat16"
    assert best.change["gpu"] == "l40s:2"
    dear = [r for r in report.remedies if set(r.change) == {"gpu"}]
    assert all(r.price.points > best.price.points for r in dear)
    for flag in ("checkpointing", "bnb_4bit_quant_storage"):
        less = {n: v for n, v in best.change.items() if n != flag}
        again = answer("llama-3.1-70b", "train", {**workload, **less}, remedies=False)
        assert again.verdict.fits != "yes", flag


@pytest.mark.slow
def test_the_parts_of_a_pipeline_are_loaded_in_sixteen_bits():
    workload = {"gpu": "3060"}
    report = answer("sdxl", "load", workload)
    assert changes(report)[0] == {"dtype": "float16"}
    holds("sdxl", "load", workload, report)
    assert not any("dtype" in c for c in changes(answer("sdxl", "load", {"gpu": "t4:2"})))


@pytest.mark.slow
def test_cards_that_share_a_model_are_offered_its_packed_formats():
    workload = {"gpu": "4090:4"}
    report = answer("llama-3.1-70b", "load", workload)
    assert {"quantization": "nf4"} in changes(report)
    holds("llama-3.1-70b", "load", workload, report)


@pytest.mark.slow
def test_the_table_of_formats_says_what_each_takes_or_leaves_the_column_out(capsys):
    from weighbridge.faces.cli.menu import run

    run(["load", "llama-3.1-70b", "--gpu", "4090:4"])
    packed = [line for line in capsys.readouterr().out.splitlines() if " nf4 " in line]
    assert packed[0].count("GiB") == 2
    run(["load", "sdxl", "--gpu", "3060"])
    shown = capsys.readouterr().out
    assert [line.count("GiB") for line in shown.splitlines() if "✓ float16 " in line] == [2]
    run(["load", "sdxl", "--gpu", "3060", "--dtype", "float32"])
    assert "float16" in capsys.readouterr().out


@pytest.mark.slow
def test_a_mac_is_offered_nothing_that_needs_kernels_of_cuda():
    for method in ("qlora", "lora", "full"):
        report = answer(
            "llama-3.1-8b", "train", {"gpu": "m1-8gb", "method": method}, pinned=("gpu",)
        )
        told = str([dict(r.change) for r in report.remedies])
        assert not any(w in told for w in ("liger", "8bit", "nf4", "qlora", "bnb", "zero"))
        assert method != "qlora" or report.remedies == ()
    served = str(changes(answer("llama-3.1-70b", "infer", {"gpu": "m3 max 64gb"})))
    assert "llama.cpp" in served
    assert not any(w in served for w in ("awq", "gptq", "nf4", "bnb", "fp8", "vllm"))


@pytest.mark.slow
def test_models_for_a_card_are_ranked_in_files_of_its_engine():
    from weighbridge.answers.questions.fit.ranking import models
    from weighbridge.answers.questions.fit.request import asked as read

    rows = models(["llama-3.1-70b"], prepared, read({"gpu": "m3 max 64gb"})).rows
    assert rows[0]["engine"] == "ollama"
    assert rows[0]["format"].startswith("Q")
    rows = models(["llama-3.1-70b"], prepared, read({"gpu": "a100-80gb"})).rows
    assert rows[0]["engine"] == "vllm"


@pytest.mark.slow
def test_what_crosses_the_bus_is_never_nothing():
    workload = {"engine": "vllm", "tensor_parallel_size": 2, "quantization": "awq-4bit-g128"}
    report = answer("llama-3.1-70b", "infer", {**workload, "gpu": "4090:2", "context": 12288})
    told = [r.cost for r in report.remedies if "cpu_offload_gb" in r.change]
    assert told
    assert all(cost.startswith("5% of ") for cost in told)
    assert weighbridge.answers.remedies.prices.crossing(0.004).words.startswith("0.4%")
    assert weighbridge.answers.remedies.prices.crossing(0.0).words.startswith("less than 0.1%")
