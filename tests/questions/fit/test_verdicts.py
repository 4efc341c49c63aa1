"""Verdicts that people act on: about the command that was given, and one story in all numbers."""

import re
import shlex
from types import SimpleNamespace

import pytest

import weighbridge
from tests.ask import usual
from tests.cases import each
from tests.told import full
from weighbridge.answers.questions.fit import answers
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes, Component, Device, Instant
from weighbridge.engines.launch import parse
from weighbridge.faces.cli.menu import run
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions
from weighbridge.memory.report.fit import NAMES

SERVERS = ("vllm", "sglang")
ENGINES = ("transformers", *SERVERS, "llama.cpp", "ik_llama.cpp")
SHARE = {"vllm": "gpu_memory_utilization", "sglang": "mem_fraction_static"}
# SGLang's own fraction on an L4 leaves no pool at all, and a larger one does
TIGHT = "python -m sglang.launch_server --model-path qwen3-8b --context-length 16384"


asked = usual("infer", "llama-3.1-8b")


def whole(engine):
    """Settings with which all layers stay on the card: else llama.cpp moves some by itself."""
    return {"n_gpu_layers": -1} if engine == "llama.cpp" else {}


def exit_of(*arguments):
    return run(["infer", *arguments, "--check", "-q"])


# A command is judged as it is


@pytest.mark.slow
def test_a_command_that_does_not_serve_does_not_fit(capsys):
    found = weighbridge.infer(command=TIGHT, gpu="l4")
    assert not found.derived["serves_as_asked"]
    assert found.verdict.fits == "no"
    assert "leaves nothing for the KV cache" in found.verdict.reason
    assert exit_of("--command", TIGHT, "--gpu", "l4") == 1
    assert found.verdict.margin_bytes > 0, "the card has the memory: the share is what lacks it"
    (remedy,) = found.to_dict()["remedies"]
    assert remedy["fits"] == "yes"
    assert remedy["cost"] == "more of the card is the engine's"
    helped = f"{TIGHT} {remedy['flags']}"
    then = weighbridge.infer(command=helped, gpu="l4")
    assert (then.verdict.fits, then.remedies) == ("yes", ())
    assert then.peak.expected == remedy["peak_bytes"]
    assert exit_of("--command", helped, "--gpu", "l4") == 0
    run(["infer", "--command", TIGHT, "--gpu", "l4"])
    assert f" GiB  {remedy['flags']}  (" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["llama.cpp", "ik_llama.cpp"])
def test_layers_that_the_card_holds_are_a_remedy(engine):
    w = {"engine": engine, "gpu": "4090", "quantization": "Q4_K_M"}
    w |= (
        {"engine_version": "7300"} if engine == "llama.cpp" else {}
    )  # later ones move by themselves
    found = asked("llama-3.1-70b", **w)
    assert found.verdict.fits == "no"
    (remedy,) = (r for r in found.remedies if set(r.change) == {"n_gpu_layers"})
    count = remedy.change["n_gpu_layers"]
    assert remedy.flags == f"-ngl {count}"
    then = asked("llama-3.1-70b", **w, n_gpu_layers=count)
    assert (then.verdict.fits, then.peak.expected) == (remedy.fits, remedy.peak_bytes)
    assert then.verdict.fits != "no"
    assert asked("llama-3.1-8b", **w).remedies == ()


@pytest.mark.slow
def test_what_the_command_says_stays():
    """A share that was written is taken back first, which is said; no other remedy touches it."""
    found = weighbridge.infer(
        command="vllm serve qwen3-8b --gpu-memory-utilization 0.2", gpu="a100-80gb"
    )
    assert found.verdict.fits == "no"
    assert "its share, 0.2 of the card" in found.verdict.reason
    first, *others = found.remedies
    assert (dict(first.change), first.fits) == ({"gpu_memory_utilization": 0.92}, "yes")
    assert first.cost.startswith("this setting alone is what does not fit")
    assert others
    assert all("gpu_memory_utilization" not in r.change for r in others)


@pytest.mark.slow
@pytest.mark.parametrize("engine", SERVERS)
def test_without_a_command_the_flags_are_said_beside_the_verdict(engine):
    model, context = {"sglang": ("qwen3-8b", 16_384), "vllm": ("llama-3.1-8b", 46_080)}[engine]
    found = asked(model, engine=engine, gpu="4090", context=context)
    assert found.verdict.fits != "no"
    assert found.derived["serves_as_asked"]
    assert not found.derived["serves_by_default"]
    flags = (
        found.verdict.reason.partition("the line below ")[2]
        .partition(": ")[0]
        .partition(", with ")[2]
    )
    assert flags
    assert flags in found.derived["launch"]
    assert found.verdict.reason.startswith(f"with its defaults {engine} would not serve this")
    plain = asked(model, engine=engine, gpu="h100", context=context)
    assert "with its defaults" not in plain.verdict.reason


@pytest.mark.slow
def test_a_pool_that_the_card_has_no_room_for_does_not_fit():
    """Weights 15.3 GiB of 23.5: 0.98 of what is free makes a pool, and no room for a step."""
    line = "python -m sglang.launch_server --model-path qwen3-8b --context-length 4096"
    assert weighbridge.infer(command=line, gpu="4090").verdict.fits == "yes"
    full = weighbridge.infer(command=f"{line} --mem-fraction-static 0.98", gpu="4090")
    assert full.derived["kv_cache_tokens"] > 8192
    assert full.verdict.fits == "no"
    given = "vllm serve qwen3-8b --max-model-len 8192 --kv-cache-memory-bytes"
    assert weighbridge.infer(command=f"{given} 2G", gpu="4090").verdict.fits == "yes"
    assert weighbridge.infer(command=f"{given} 12G", gpu="4090").verdict.fits == "no"


# The reason is what is short


@pytest.mark.slow
def test_a_share_that_is_too_small_is_named():
    found = asked("qwen3-8b", engine="vllm", gpu="4090", gpu_memory_utilization=0.5, context=8192)
    assert found.verdict.fits == "no"
    assert "its share, 0.5 of the card, is 11.79 GiB" in found.verdict.reason
    assert "within" not in found.verdict.reason
    assert found.derived["largest_context"] == 0, "vLLM does not start, however short"


@pytest.mark.slow
@pytest.mark.parametrize("engine", SERVERS)
@pytest.mark.parametrize("gpu", ["rtx 4060 8gb", "3060", "4090", "a100-80gb"])
def test_no_verdict_contradicts_what_stands_beside_it(engine, gpu):
    for model in ("qwen3-0.6b", "llama-3.1-8b", "gemma-2-9b", "qwen3-30b-a3b"):
        for context in (2048, 8192, 20_480):
            found = asked(model, engine=engine, gpu=gpu, context=context)
            would = any("which would do" in line for line in found.warnings)
            verdict, serves = found.verdict, found.derived
            assert not (verdict.fits == "no" and would), (model, context, found.warnings)
            assert serves["launch_serves"] or verdict.fits != "yes"
            if verdict.fits == "no" and verdict.per_device.low <= verdict.usable.high:
                assert "at worst" not in verdict.reason


# The line to paste is the answer


@pytest.mark.slow
@pytest.mark.parametrize("engine", SERVERS)
@pytest.mark.parametrize("gpu", ["3060", "4090", "l4", "a100-80gb"])
def test_the_launch_line_has_the_verdict_of_what_was_sized(engine, gpu):
    for model in ("qwen3-0.6b", "llama-3.1-8b"):
        for context in (2048, 30_000, 36_864):
            found = asked(model, engine=engine, gpu=gpu, context=context)
            pasted = weighbridge.infer(command=found.derived["launch"], gpu=gpu, offline=True)
            assert pasted.verdict.fits == found.verdict.fits, (model, context)
            assert pasted.peak == found.peak
            for name in ("kv_cache_tokens", "max_concurrency", "launch"):
                assert pasted.derived[name] == found.derived[name]


# A maximum is maximal, and one story is told of how many


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("model", "gpu", "more"),
    each(
        2,
        [
            ("llama-3.1-8b", "4090", {}),
            ("qwen3-8b", "4090", {"prompt_len": 3000, "max_new_tokens": 1000}),
            ("qwen3-0.6b", "3060", {"batch_size": 7, "context": 1000}),
            ("gemma-2-9b", "a100-40gb", {"context": 5000}),
        ],
    ),
)
def test_a_maximum_is_maximal(engine, model, gpu, more):
    more = more | whole(engine)
    found = asked(model, engine=engine, gpu=gpu, **more)
    ends = found.derived["searched_to"]
    context = found.workload["context"]
    written = more.get("max_new_tokens")

    def of_length(n):
        lengths = {"prompt_len": n - written} if written else {"context": n}
        return asked(model, engine=engine, gpu=gpu, **(more | lengths)).verdict.fits == "yes"

    def of_many(n):
        return asked(model, engine=engine, gpu=gpu, **(more | {"batch_size": n}))

    longest = found.derived["largest_context"]
    assert longest > (written or 0)
    assert of_length(longest)
    assert longest == ends["context"] or not of_length(longest + 1)
    most = found.derived["largest_batch_size"]
    assert most == 0 or of_many(most).verdict.fits == "yes"
    assert most == ends["batch_size"] or of_many(most + 1).verdict.fits != "yes"
    if found.verdict.fits == "yes":
        assert longest >= context
        assert most >= more.get("batch_size", 1)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_maximum_at_a_glance(engine):
    """20,224 tokens fit and 20,225 do not: 20,200 is no answer."""
    w = {"engine": engine, "gpu": "4090", **whole(engine)}
    found = asked(**w).derived["largest_context"]
    assert asked(**w, context=found).verdict.fits == "yes"
    assert asked(**w, context=found + 1).verdict.fits != "yes"


@pytest.mark.slow
@pytest.mark.parametrize("engine", SERVERS)
def test_how_many_run_at_once_is_one_story(engine):
    """With a share that is small, the command's own bounds are those of its pool."""
    line = {
        "vllm": "vllm serve qwen3-0.6b --max-model-len 4096 --gpu-memory-utilization 0.3",
        "sglang": "python -m sglang.launch_server --model-path qwen3-0.6b --context-length 4096 "
        "--mem-fraction-static 0.3",
    }[engine]
    found = weighbridge.infer(command=line, gpu="4090").derived
    assert 1 < found["largest_batch_size"] <= found["max_concurrency"]
    assert found["max_concurrency"] < found["largest_batch_size"] + 4
    assert found["largest_context"] == 40_960 or found["largest_context"] > 4096
    assert parse(line).settings["context"] == 4096
    assert shlex.split(found["launch"])[-1] == "0.3"


@pytest.mark.slow
def test_the_layers_of_a_remedy_fit_with_the_margins_of_published_runs():
    w = {"engine": "llama.cpp", "quantization": "Q8_0", "gpu": "t4", "context": 65_536}
    w |= {"engine_version": "7300"}  # later ones move layers by themselves
    remedies = weighbridge.infer("llama-3.1-8b", **w).remedies
    (remedy,) = (r for r in remedies if set(r.change) == {"n_gpu_layers"})
    count = remedy.change["n_gpu_layers"]
    assert (remedy.fits, remedy.flags) == ("yes", f"-ngl {count}")
    verdicts = [
        weighbridge.infer("llama-3.1-8b", n_gpu_layers=n, **w).verdict.fits
        for n in (count, count + 1)
    ]
    assert verdicts == ["yes", "unknown"]


@pytest.mark.slow
def test_a_remedy_is_about_the_host_too():
    w = {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "a100-40gb"}
    for ram, more in (("300GiB", False), ("300MiB", True)):
        remedies = weighbridge.infer("llama-3.1-70b", ram=ram, **w).remedies
        assert remedies and all(("ram" in remedy.change) == more for remedy in remedies)
        for remedy in remedies:
            then = weighbridge.infer("llama-3.1-70b", **{**w, "ram": ram, **remedy.change})
            assert remedy.fits == then.verdict.fits == "yes"


# What an engine does not start with


def of_command(command, gpu="a100-80gb:2"):
    return weighbridge.infer(command=command, gpu=gpu)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "flag", "meant"),
    [
        ("vllm serve qwen3-8b --gpu-memory-utilisation 0.5", "utilisation", "utilization"),
        ("sglang serve --model-path qwen3-8b --mem-fraction-statc 0.8", "statc", "static"),
        ("vllm serve qwen3-8b --foo", "--foo", ""),
    ],
)
def test_a_flag_that_no_engine_has_is_never_said_to_fit(command, flag, meant):
    found = of_command(command).verdict
    assert found.fits == "unknown"
    assert f"may not start: --{flag.removeprefix('--')}" in found.reason or flag in found.reason
    assert re.search(r"is no flag of (vllm|sglang) that we know", found.reason)
    assert (meant + "?" in found.reason) == bool(meant)
    assert exit_of("--command", command, "--gpu", "a100-80gb:2") == 4


@pytest.mark.slow
def test_a_format_that_the_checkpoint_is_not_stored_in_does_not_start():
    command = "vllm serve qwen3-8b --quantization {}"
    found = of_command(command.format("awq")).verdict
    assert found.fits == "no"
    assert "vLLM will not start: --quantization awq" in found.reason
    assert of_command(command.format("fp8")).verdict.fits == "yes", "made while it is loaded"
    assert of_command(command.format("none")).verdict.fits == "yes"


@pytest.mark.slow
def test_devices_that_the_environment_hides_are_not_there():
    command = "CUDA_VISIBLE_DEVICES={} vllm serve qwen3-8b -tp 2"
    found = of_command(command.format("0")).verdict
    assert (found.fits, "sees 1" in found.reason) == ("no", True)
    assert of_command(command.format("0,1")).verdict.fits == "yes"
    spread = of_command(command.format("0") + " --nnodes 2").verdict
    assert spread.fits == "unknown", "the other machine has devices as well"


@pytest.mark.slow
def test_another_kind_of_device_is_not_judged():
    found = of_command("vllm serve qwen3-8b --device cpu").verdict
    assert (found.fits, "another kind of device" in found.reason) == ("unknown", True)
    assert of_command("vllm serve qwen3-8b --device cuda").verdict.fits == "yes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "command"),
    [
        ("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "vllm serve qwen3-8b --max-model-len 64k"),
        (
            "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
            "sglang serve --model-path qwen3-8b --context-length 65536",
        ),
    ],
)
def test_a_context_beyond_the_models_maximum_does_not_start(variable, command):
    found = of_command(command)
    assert found.verdict.fits == "no"
    assert "the model's maximum is 40,960" in found.verdict.reason
    assert variable not in found.derived["launch"], "the line is the one that was judged"
    (remedy,) = found.remedies
    assert remedy.flags == f"{variable}=1"
    allowed = of_command(f"{remedy.flags} {command}")
    assert (allowed.verdict.fits, allowed.peak.expected) == (remedy.fits, remedy.peak_bytes)
    assert allowed.derived["launch"].startswith(f"{variable}=1 ")
    assert allowed.remedies == ()
    plain = asked("qwen3-8b", engine=found.workload["engine"], context=65_536, gpu="a100-80gb")
    assert any(f"{variable}=1" in line for line in plain.warnings)


def test_a_config_of_its_own_may_have_another_maximum():
    command = "vllm serve qwen3-8b --max-model-len 64k --hf-overrides '{}'"
    assert of_command(command).verdict.fits == "yes"


@pytest.mark.slow
def test_the_longest_context_that_fits_is_sized():
    command = "vllm serve qwen3-8b --max-model-len auto"
    found, whole = of_command(command, "4090"), of_command(command, "a100-80gb")
    assert found.verdict.fits == "yes"
    assert 0 < found.workload["context"] < 40_960 == whole.workload["context"]
    one_more = f"vllm serve qwen3-8b --max-model-len {found.workload['context'] + 16}"
    assert of_command(one_more, "4090").verdict.fits != "yes"
    assert any(f"{found.workload['context']:,} tokens" in line for line in found.warnings)


# Lines that do not do


@pytest.mark.slow
def test_a_shorter_context_is_a_remedy_where_the_length_was_left_to_the_engine():
    line, flag = "vllm serve qwen3-8b", "--max-model-len"
    found = weighbridge.infer(command=line, gpu="4090")
    assert found.verdict.fits != "yes"
    (remedy,) = (r for r in found.remedies if set(r.change) == {"context"})
    assert remedy.flags == f"{flag} {found.derived['largest_context']}"
    then = weighbridge.infer(command=f"{line} {remedy.flags}", gpu="4090")
    assert (then.verdict.fits, then.peak.expected) == ("yes", remedy.peak_bytes)
    assert remedy.fits == "yes"
    said = weighbridge.infer(command=f"{line} {flag} 40960", gpu="4090")
    assert all(flag not in r.flags for r in said.remedies), "what was said is kept"


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "fits"), [("", "yes"), (" --context-length 16384", "no")])
def test_sglang_caps_its_requests_where_the_pool_holds_less_than_the_context(flags, fits):
    """It starts either way; a length that was asked for is not served by a shorter one."""
    found = weighbridge.infer(command=f"sglang serve --model-path qwen3-8b{flags}", gpu="4090")
    assert (found.verdict.fits, found.derived["serves_as_asked"]) == (fits, fits == "yes")
    assert 0 < found.derived["kv_cache_tokens"] < 16_384
    if fits == "yes":
        longest = found.derived["longest_request"]
        assert found.remedies == ()
        assert found.verdict.reason.startswith(f"requests up to {longest:,} tokens: ")
    else:
        assert found.remedies[0].fits == "yes"
        assert "16,384 tokens" in found.verdict.reason


@pytest.mark.slow
def test_a_line_that_does_not_do_is_not_offered():
    line = "vllm serve qwen3-8b --gpu-memory-utilization 0.2"
    bad, good = (weighbridge.infer(command=line, gpu=gpu) for gpu in ("a100-80gb", "b200"))
    for told in (str(bad), bad._repr_markdown_(), bad._repr_html_()):
        assert "The command that was judged (does not fit)" in told
        assert "Run" not in told
    for told in (str(good), good._repr_markdown_(), good._repr_html_()):
        assert "Run" in told


@pytest.mark.slow
def test_more_devices_than_were_named_are_said_so():
    found = weighbridge.infer(command="vllm serve qwen3-8b -tp 4", gpu="a100-80gb:2")
    assert found.verdict.reason.startswith("it needs 4 devices, and 2 are named")
    assert "it needs 4 devices, and 2 are named" in " ".join(str(found).split())
    assert "needs 4 devices, 2 are named" in full(found)
    assert "on 4 of 2" not in full(found)


@pytest.mark.slow
def test_no_fraction_above_the_whole_is_named():
    found = asked("llama-3.1-70b", engine="sglang", gpu="a100-80gb", context=4096)
    assert any("the weights alone do not fit" in line for line in found.warnings)
    assert not any("above 1" in line for line in found.warnings)


@pytest.mark.slow
def test_what_may_be_refused_is_not_said_to_be():
    """0.99 of the card: free by the best estimate, and not by the expected one."""
    line = "vllm serve qwen3-0.6b --max-model-len 2048 --gpu-memory-utilization {}"
    words = {"unknown": "vLLM may refuse", "no": "vLLM refuses"}
    told = set()
    for thousandths in range(970, 1001, 3):
        v = weighbridge.infer(command=line.format(thousandths / 1000), gpu="a100-80gb").verdict
        if "refuse" in v.reason:
            told.add(v.fits)
            assert words[v.fits] in v.reason
    assert told == {"unknown", "no"}


@pytest.mark.slow
def test_nothing_is_promised_that_the_remedy_does_not():
    seen = set()
    lengths = [f"qwen3-8b --max-model-len {n}" for n in range(24_000, 41_000, 1_000)]
    asked = [(line, "4090") for line in ("qwen3-8b", *lengths)]
    tight = "qwen3-30b-a3b -q fp8 -tp 2 --max-model-len 4096"
    for line, gpu in (*asked, (tight, "rtx 4060 ti 16gb:2")):
        found = weighbridge.infer(command=f"vllm serve {line}", gpu=gpu)
        for remedy in (r for r in found.remedies if "utilization" in r.flags):
            seen.add(remedy.fits)
            assert not any("would do" in said for said in found.warnings), "a verdict says it"
            assert remedy.flags in found.derived["launch"]
            title = {"yes": "fits", "unknown": "cannot say", "no": "does not fit"}[remedy.fits]
            assert f"With {remedy.flags} ({title})" in str(found), "not the line that was judged"
    assert "unknown" in seen


@pytest.mark.slow
def test_a_smaller_share_is_tried_where_the_default_may_not_be_free():
    """Two 3090s: 0.92 of the card may not be free beside both communicators, and less is enough."""
    w = {"engine": "vllm", "tensor_parallel_size": 2, "gpu": "3090:2", "quantization": "fp8"}
    found = asked("qwen3-30b-a3b", **w)
    assert found.verdict.fits == "yes"
    share = found.workload["gpu_memory_utilization"]
    assert share < 0.92
    assert f"--gpu-memory-utilization {share:g}" in found.verdict.reason
    line = "vllm serve qwen3-30b-a3b -q fp8 -tp 2 --max-model-len 4096"
    alone = weighbridge.infer(command=line, gpu="3090:2")
    assert alone.verdict.fits == "unknown"
    (remedy,) = alone.remedies
    assert (remedy.fits, remedy.change["gpu_memory_utilization"]) == ("yes", share)
    then = weighbridge.infer(command=f"{line} {remedy.flags}", gpu="3090:2")
    assert (then.verdict.fits, then.peak.expected) == ("yes", remedy.peak_bytes)


def test_the_fullest_phase_has_the_most_bytes():
    """Prefill is expected to take more here, and decode's low estimate is above prefill's."""
    ends = {"prefill": Bytes(5, 10, 12), "decode": Bytes(8, 9, 12)}
    phases = tuple(
        Instant(name, (Component(name="activations", bytes=each, basis="computed"),))
        for name, each in ends.items()
    )
    assert Device(index=0, kind="gpu", phases=phases).peak_phase == "prefill"
    assert Device(index=0, kind="gpu", phases=phases[::-1]).peak_phase == "prefill"


@pytest.mark.slow
def test_no_remedy_helps_a_line_that_the_engine_refuses():
    (remedy,) = weighbridge.infer(command=TIGHT, gpu="l4").remedies
    assert remedy.fits == "yes"
    (unsure,) = weighbridge.infer(command=f"{TIGHT} --foo", gpu="l4").remedies
    assert (unsure.flags, unsure.fits) == (remedy.flags, "unknown")
    assert weighbridge.infer(command=f"{TIGHT} --quantization awq", gpu="l4").remedies == ()


@pytest.mark.slow
def test_too_few_devices_have_nothing_to_spare():
    """Each of the two would have room: one rank is enough, or a second card, which two need."""
    found = weighbridge.infer("qwen3-8b", engine="vllm", tensor_parallel_size=2, gpu="4090")
    shown = " ".join(str(found).split())
    assert "it needs 2 devices, and 1 is named" in shown
    assert "on each of 2" in shown
    assert "to spare" not in shown
    assert [dict(remedy.change) for remedy in found.remedies] == [
        {"tensor_parallel_size": 1},
        {"gpu": "4090:2"},
    ]
    assert {remedy.fits for remedy in found.remedies} == {"yes"}


@pytest.mark.slow
def test_a_larger_card_is_offered_as_often_as_ranks_need_it():
    found = weighbridge.infer("llama-3.1-70b", engine="vllm", tensor_parallel_size=4, gpu="4090:2")
    assert "short by" in str(found)
    assert dict(found.remedies[0].change) == {"gpu": "l40s:4"}


@pytest.mark.slow
def test_loading_and_serving_by_other_programs_are_told_apart():
    def shown(engine, gpu, **look):
        return render(
            weighbridge.fit("qwen3-14b", engine=engine, gpu=gpu), "human", RenderOptions(**look)
        )

    told = "load: as transformers loads it, in bfloat16; Ollama serves it in Q4_K_M"
    assert told in shown("ollama", "4090", details=True)
    assert told not in shown("ollama", "4090")  # where loading has no row
    assert told not in shown("ollama", "a100-80gb", details=True)
    assert "loads it" not in shown("vllm", "4090", details=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "asked", "sizes"),
    [
        ("vllm", {"gpu": "h100:2"}, (2, 1)),
        ("sglang", {"gpu": "h100:2"}, (2, 1)),
        ("vllm", {"gpu": "h100"}, (1, 1)),
        ("vllm", {"gpu": "h100:2", "tensor_parallel_size": 1}, (1, 1)),
        ("vllm", {"gpu": "h100:2", "pipeline_parallel_size": 2}, (1, 2)),
        ("vllm", {"gpu": "h100:3"}, (1, 3)),  # 16 heads are not three shares, layers are
    ],
)
def test_a_server_uses_the_cards_that_were_named(engine, asked, sizes):
    """Every layer over all of them, as people start it; else layers in stages."""
    found = weighbridge.infer("qwen3-0.6b", engine=engine, **asked)
    told = (found.setting("tensor_parallel_size"), found.setting("pipeline_parallel_size"))
    assert told == sizes
    assert sum(d.kind == "gpu" for d in found.devices) == sizes[0] * sizes[1]
    again = weighbridge.infer("qwen3-0.6b", **{"engine": engine, **asked, **parallel(sizes)})
    assert again.peak == found.peak


def parallel(sizes):
    return dict(zip(("tensor_parallel_size", "pipeline_parallel_size"), sizes, strict=True))


@pytest.mark.slow
def test_what_needs_two_cards_is_answered_on_two():
    found = weighbridge.infer("llama-3.1-70b", engine="vllm", gpu="h100:2")
    assert found.verdict.fits == "yes"
    assert "--tensor-parallel-size 2" in found.derived["launch"]
    one = weighbridge.infer("llama-3.1-70b", engine="vllm", gpu="h100:2", tensor_parallel_size=1)
    assert one.verdict.fits == "no"


def test_a_command_is_judged_as_it_stands():
    found = of_command("vllm serve qwen3-0.6b", gpu="h100:2")
    assert found.setting("tensor_parallel_size") == 1


@pytest.mark.parametrize("wrong", [{"max_num_batched_tokens": 8, "max_num_seqs": 64}])
def test_what_is_refused_however_it_is_spread_says_why(wrong):
    with pytest.raises(UsageError, match="max-num-batched-tokens"):
        weighbridge.infer("qwen3-0.6b", engine="vllm", gpu="h100:2", **wrong)


@pytest.mark.parametrize(
    ("about", "more"),
    [("dpo", {"seq_len": 256}), ("grpo", {"max_new_tokens": 128, "batch_size": 8})],
)
def test_a_method_of_rewards_is_a_question_of_its_own(about, more, capsys):
    """Beside the five of all, as `train --method` answers it, with its exit code."""
    asked = {"gpu": "4090", "batch_size": 1, **more}
    answer = weighbridge.fit("qwen3-0.6b", **{"for": about}, **asked)
    alone = weighbridge.train("qwen3-0.6b", method=about, **asked)
    assert [q.name for q in answer.questions] == [*NAMES, about]
    assert answer.report.peak == alone.peak and answer.fits == alone.verdict.fits == "yes"
    flags = [f"--{n.replace('_', '-')}={value}" for n, value in asked.items()]
    assert run(["fit", "qwen3-0.6b", f"--for={about}", *flags]) == 0
    assert about.upper() in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "gpu", "tried"),
    [  # 48 layers x 128 experts x 3 linears take up to a minute to follow; 32 x 8 x 3 do not
        ("qwen3-30b-a3b", "3090", False),
        ("mixtral-8x7b", "a100-40gb", True),
    ],
)
def test_a_release_that_takes_long_to_follow_is_not_tried_beside_another_question(
    model, gpu, tried
):
    (qlora,) = (q for q in weighbridge.fit(model, gpu=gpu).questions if q.name == "qlora")
    assert any("engine_version" in one.change for one in qlora.report.remedies) == tried
    assert qlora.help or qlora.replaced


@pytest.mark.parametrize(
    ("gpu", "change"),
    [
        ("3060", {"loss": "liger", "optimizer": "paged_adamw_8bit"}),
        ("4090", {}),  # as it was asked
        ("gtx 1650", None),  # whatever is changed
    ],
)
def test_training_that_a_change_makes_fit_is_a_yes(gpu, change):
    """The first line, the exit code and the report are of the change; the row is as it was asked."""
    found = weighbridge.fit("qwen3-0.6b", **{"for": "train"}, gpu=gpu)
    row, plan = found.question("train"), found.to_dict()["plan"]
    if change is None:
        assert (found.fits, plan["why"]) == ("no", "asked")
        return
    assert (found.fits, plan["settings"]) == ("yes", change)
    assert (plan["why"], row.fits) == (("changed", "no") if change else ("asked", "yes"))
    alone = weighbridge.train("qwen3-0.6b", gpu=gpu, **change)
    assert plan["peak_bytes"] == alone.verdict.per_device.expected
    said = " ".join(f"--{name} {value}" for name, value in change.items())
    assert said in " ".join(full(found).split())


@pytest.mark.parametrize("change", [{"seq_len": 1024}, {"loss": "liger", "batch_size": 1}])
def test_a_training_of_less_is_no_yes(change):
    """It is not what was asked about: no further question is asked."""
    question = SimpleNamespace(task="train", fits="no", help=SimpleNamespace(change=change))
    assert answers._way(None, SimpleNamespace(solves=False), question) is None
