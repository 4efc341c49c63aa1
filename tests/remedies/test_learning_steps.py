"""Steps of runs that learn from rewards and preferences: in people's order, as changed questions."""

import pytest

import weighbridge
from weighbridge.base.memory import HIGH
from weighbridge.base.units import GIB
from weighbridge.training.learning.words import spelled

LARGE = "qwen2.5-7b"
OPENRLHF = {
    "method": "grpo",
    "framework": "openrlhf",
    "gpu": "a100-80gb:4",
    "prompt_len": 1024,
    "max_new_tokens": 3072,
    "batch_size": 2,
}


def peaks(report):
    return {one.name: one.at("driver").expected for one in report.fullest.phases}


@pytest.mark.slow
def test_steps_come_in_order_until_one_fits():
    """The order of docs/rewards.md; the share is that of which the fullest instant has room."""
    report = weighbridge.train(LARGE, **OPENRLHF)
    last = report.remedies[-1]
    assert [*last.change] == ["checkpointing", "shard", "sleep_level", "gpu_memory_utilization"]
    assert [r.fits for r in report.remedies] == ["no", "no", "no", "yes"]
    assert last.paste == (
        "--actor.gradient_checkpointing_enable --ds.zero_stage 3 --vllm.enable_sleep "
        f"--vllm.gpu_memory_utilization {last.change['gpu_memory_utilization']}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        OPENRLHF,
        {"method": "dpo", "gpu": "4090", "lora_r": 16, "batch_size": 4, "seq_len": 4096},
        {"method": "grpo", "framework": "ms-swift", "gpu": "h100:4", "batch_size": 8}
        | {"rollout_engine": "vllm", "max_new_tokens": 2048},
    ],
)
def test_a_step_is_the_changed_question_and_lowers_what_binds(settings):
    model = weighbridge.prepare(LARGE)
    report = model.train(**settings)
    *_, last = report.remedies
    for remedy in report.remedies:
        then = model.train(**{**settings, **remedy.change}, remedies=False)
        assert then.peak.expected == remedy.peak_bytes
        assert then.fullest.peak_phase == remedy.kind
        binding = report.fullest.binding(HIGH).name  # what the verdict is about
        if then.verdict.accelerator_id == report.verdict.accelerator_id:
            assert peaks(then)[binding] < peaks(report)[binding]
        else:  # the last step: a larger card, whose own context may take more
            assert then.verdict.margin_bytes > report.verdict.margin_bytes
            assert remedy is last
        report = then


@pytest.mark.slow
def test_what_fits_has_no_steps_though_something_was_not_said():
    report = weighbridge.train("qwen2.5-0.5b", method="dpo", gpu="h100", seq_len=512)
    assert (report.verdict.fits, report.remedies) == ("unknown", ())
    assert "--batch-size" in report.verdict.reason


@pytest.mark.slow
def test_an_engine_that_does_not_start_needs_a_larger_share():
    asked = {"method": "grpo", "framework": "verl", "gpu": "h100:4", "rollout_tp": 1}
    asked |= {"max_tokens_per_gpu": 4096, "max_new_tokens": 1024, "gpu_memory_utilization": 0.1}
    report = weighbridge.train(LARGE, **asked)
    assert report.verdict.fits == "no" and "will not start" in report.verdict.reason
    (remedy,) = report.remedies
    served = weighbridge.train(LARGE, **{**asked, **remedy.change})
    assert (remedy.fits, served.verdict.fits) == ("yes", "yes")
    assert remedy.paste == (
        f"actor_rollout_ref.rollout.gpu_memory_utilization={remedy.change['gpu_memory_utilization']}"
    )


MS_SWIFT = {"method": "grpo", "framework": "ms-swift", "gpu": "h100:4", "batch_size": 4}
MS_SWIFT |= {"max_new_tokens": 2048, "rollout_engine": "vllm", "sleep_level": 1, "kl_beta": 0}
MS_SWIFT |= {"shard": "zero3", "rollout_offload": "weights"}
VERL = {"method": "grpo", "framework": "verl", "gpu": "h100:8", "max_tokens_per_gpu": 16384}
VERL |= {"max_new_tokens": 2048, "framework_version": "0.6", "rollout_tp": 1, "kl_beta": 0.001}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "ram", "steps"),
    [
        (VERL, "110GiB", ["kl_beta", "rollout_tp"]),
        (MS_SWIFT, "75GiB", ["rollout_offload", "gpu_memory_utilization"]),
    ],
)
def test_steps_lower_what_the_machine_is_to_hold(settings, ram, steps):
    """Where cards have the room and RAM has not: less is away from them."""
    model = weighbridge.prepare(LARGE)
    report = model.train(ram=ram, **settings)
    assert report.verdict.host.fits == "no"
    needs = [report.verdict.host.needed.low, *(r.host.low for r in report.remedies)]
    assert needs == sorted(needs, reverse=True) and len(set(needs)) == len(needs)
    last = report.remedies[-1]
    assert [*last.change] == steps and last.fits != "no"
    then = model.train(ram=ram, remedies=False, **{**settings, **last.change})
    assert then.verdict.host.needed == last.host


@pytest.mark.slow
def test_rows_are_cut_over_as_few_cards_as_are_enough():
    """Sixteen cards could cut each row; eight are enough, and nothing goes to RAM. Each has its
    part of the tokens."""
    asked = {"method": "dapo", "framework": "verl", "gpu": "h100:16", "rollout_tp": 4}
    asked |= {"prompt_len": 2048, "max_new_tokens": 30720, "max_tokens_per_gpu": 32768}
    model = weighbridge.prepare("qwen2.5-32b")
    *steps, last = [r for r in model.train(**asked).remedies if "context_parallel_size" in r.change]
    ranks = [r.change["context_parallel_size"] for r in steps]
    assert ranks == sorted({*ranks}) and all(1 < n <= 16 for n in ranks)
    assert last.fits == "yes" and {r.fits for r in steps} == {"unknown"}
    assert last.change["context_parallel_size"] < 16
    assert not any("offload" in r.change for r in (*steps, last))
    for r in (*steps, last):
        assert r.change["max_tokens_per_gpu"] * r.change["context_parallel_size"] == 32768


@pytest.mark.slow
def test_states_in_8_bits_are_no_step_of_the_processor():
    """DeepSpeed steps on the host by its own Adam, of 32 bits: the step that goes there takes back
    the one that was taken on the card."""
    asked = {"method": "grpo", "gpu": "h100:2", "rollout_engine": "vllm", "batch_size": 8}
    report = weighbridge.train("qwen2.5-14b", **asked, max_new_tokens=2048)
    eight, host = report.remedies[-2:]
    assert eight.change["optimizer"] == "adamw_8bit" and eight.fits == "no"
    assert (host.change["optimizer"], host.change["offload"]) == ("adamw_torch_fused", "optimizer")
    assert "--optim adamw_torch_fused" in host.paste


def test_a_ladder_ends_with_what_nobody_said():
    """Lengths that were counted are a step of their own: with them said it fits, in the program's
    words, too; and what is open names both."""
    asked = {"method": "grpo", "framework": "trl", "gpu": "h100:8"}
    report = weighbridge.train("qwen3-8b", **asked)
    last = report.remedies[-1]
    assert last.fits == "yes"
    assert {"batch_size": 8, "max_new_tokens": 512}.items() <= last.change.items()
    assert "--max_completion_length 512" in last.paste
    reason = weighbridge.prepare("qwen3-0.6b").train(**asked, shard="zero3").verdict.reason
    assert "--max-new-tokens (max_completion_length)" in reason


@pytest.mark.slow
def test_adapters_come_before_states_in_ram_where_one_card_is_all():
    """What people try on a card of their own: 8 bits, then adapters, whose base is in 16 bits. A
    second card shares states first."""
    asked = {"method": "dpo", "framework": "trl", "batch_size": 1, "seq_len": 1024}
    model = weighbridge.prepare("qwen3-8b")
    last = model.train(**asked, gpu="4090").remedies[-1]
    assert last.fits == "yes" and last.peak_bytes < 20 * GIB
    assert {"optimizer": "adamw_8bit", "lora_r": 16}.items() <= last.change.items()
    assert "offload" not in last.change
    two = model.train(**asked, gpu="a100-40gb:2").remedies
    first = next(r.change for r in two if {"lora_r", "offload"} & r.change.keys())
    assert "offload" in first and "lora_r" not in first


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"method": "dpo", "batch_size": 4, "seq_len": 1024},
        {"method": "grpo", "batch_size": 8, "max_new_tokens": 2048},
        {"method": "kto", "batch_size": 4, "seq_len": 1024},
    ],
)
def test_no_larger_card_before_fewer_rows_of_the_same_batch(asked):
    """What costs nothing but time comes first: a step that did nothing for what is expected may be
    what the high end needs, and is tried again."""
    report = weighbridge.prepare("qwen2.5-1.5b").train(gpu="4090", **asked)
    least = 2 if asked["method"] == "kto" else 1
    for remedy in report.remedies:
        rows = remedy.change.get("batch_size", asked["batch_size"])
        assert "gpu" not in remedy.change or rows == least
        steps = remedy.change.get("gradient_accumulation", 1)
        assert rows * steps == asked["batch_size"], "the batch is the same"
    assert report.remedies[-1].fits == "yes" and "gpu" not in report.remedies[-1].change


LINES = {  # a framework -> what a line begins with, before the words to paste
    "trl": "trl {method} --model_name_or_path {model} --dataset_name d ",
    "ms-swift": "swift rlhf --rlhf_type {method} --tuner_type full --model {model} --dataset d ",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "method", "typed"),
    [
        ("trl", "dpo", {}),
        ("trl", "kto", {"batch_size": 2}),
        ("trl", "grpo", {"batch_size": 8}),
        ("trl", "dpo", {"lora_r": 16, "batch_size": 8, "seq_len": 4096}),
        ("ms-swift", "dpo", {}),
    ],
)
def test_the_words_to_paste_say_all_that_the_answer_rests_on(framework, method, typed):
    """Read back, a line has the figures of the step: what a program has by itself beside adapters
    is another dtype (TRL loads in float32) and another dropout than were counted."""
    asked = {"method": method, "framework": framework, "gpu": "4090", "batch_size": 1, **typed}
    last = weighbridge.train("llama-3.1-8b", **asked).remedies[-1]
    said, _ = spelled(framework, {name: asked[name] for name in {"batch_size", *typed}})
    line = LINES[framework].format(method=method, model="llama-3.1-8b") + f"{said} {last.paste}"
    gpu = last.change.get("gpu", "4090")
    (read,) = weighbridge.weigh(line, name="run.sh", gpu=gpu).runs
    assert last.fits in ("yes", "unknown")
    assert read.report.peak.expected == last.peak_bytes, line
