"""`weighbridge infer` from outside: what its contract promises, whatever is behind it."""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

import weighbridge as package
from weighbridge.answers.questions.question import _one_engine
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.faces.cli.menu import run as menu
from weighbridge.models.catalogue import find

pytestmark = pytest.mark.slow

ENGINES = ("transformers", "vllm", "sglang", "llama.cpp", "ik_llama.cpp")
LEVELS = ("allocated", "reserved", "driver")
SHARING = ("vllm", "sglang")  # take a share of the card
SEVERAL = ("vllm", "sglang")  # shard by themselves
BASES = {"read", "computed", "traced", "measured", "assumed"}
COUNTS_AT = {
    **dict.fromkeys(
        (
            *("weights", "buffers", "kv_cache", "recurrent_state", "activations", "logits"),
            *("adapters", "temporaries", "workspaces", "rounding"),
        ),
        "allocated",
    ),
    "fragmentation": "reserved",
    **dict.fromkeys(("context", "communication", "cuda_graphs", "other"), "driver"),
}
TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32_000,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
}
GIB = 1 << 30


@cache
def asked(model, pairs=()):
    """The report of one request, as `run` answers it."""
    workload = dict(pairs)
    request = {"task": "infer", "model": {"config": TINY} if model == "tiny" else model}
    return Requests().answer(json.dumps({**request, "workload": workload}))


def report(model="tiny", **workload):
    found = asked(model, tuple(sorted(workload.items())))
    assert "error" not in found, found
    return found


def refused(model="tiny", **workload):
    found = asked(model, tuple(sorted(workload.items())))
    assert "error" in found, "this should be refused"
    message = found["error"]["message"]
    assert "\n" not in message
    assert "defect" not in message
    return found["error"]["code"], message


def gpus(found):
    return [d for d in found["devices"] if d["kind"] == "gpu"]


def components(found, name, phase=None):
    return [
        c
        for d in gpus(found)
        for p in d["phases"]
        if phase in (None, p["name"])
        for c in p["components"]
        if c["name"] == name
    ]


def total(found, name, phase):
    return sum(c["bytes"]["expected"] for c in components(found, name, phase))


def cached(found, phase="decode"):
    """Keys and values; tables that say where they are aside."""
    return sum(
        c["bytes"]["expected"]
        for c in components(found, "kv_cache", phase)
        if not any(word in c["detail"] for word in ("table", "list"))
    )


@pytest.fixture
def weighbridge(capsys):
    """The command line in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        code = menu([str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


# The report.


@pytest.mark.parametrize("engine", ENGINES)
def test_the_report_has_the_keys_of_the_contract(engine):
    found = report(engine=engine)
    assert found["schema"] == "weighbridge.report/1"
    assert found["task"] == "infer"
    assert {
        *("schema", "version", "task", "model", "workload", "devices", "derived", "table"),
        *("verdict", "remedies", "warnings"),
    } <= found.keys()
    assert {
        *("reference", "revision", "name", "architecture", "parameters", "active_parameters"),
        *("stored_bytes", "download_bytes", "read_from"),
    } <= found["model"].keys()
    assert found["verdict"] is None
    assert found["table"] == []
    assert all(isinstance(line, str) and "\n" not in line for line in found["warnings"])


@pytest.mark.parametrize("engine", ENGINES)
def test_devices_are_accelerators_and_then_the_host(engine):
    found = report(engine=engine)["devices"]
    assert [d["kind"] for d in found] == ["gpu", "host"]
    assert [d["index"] for d in found] == [0, 0]
    for device in found:
        assert {"index", "kind", "peak_phase", "peak", "taken", "phases"} <= device.keys()
        names = [p["name"] for p in device["phases"]]
        assert len(set(names)) == len(names)
        assert device["peak_phase"] in names
    assert [p["name"] for p in found[0]["phases"]] == ["load", "prefill", "decode"]


@pytest.mark.parametrize("engine", ENGINES)
def test_components_say_level_basis_and_bounds(engine):
    for device in report(engine=engine)["devices"]:
        for phase in device["phases"]:
            for c in phase["components"]:
                assert {
                    "name",
                    "detail",
                    "level",
                    "bytes",
                    "basis",
                    "formula",
                    "source",
                } <= c.keys()
                assert c["level"] == COUNTS_AT[c["name"]]
                assert c["basis"] in BASES
                low, expected, high = (c["bytes"][k] for k in ("low", "expected", "high"))
                assert {type(low), type(expected), type(high)} == {int}
                assert 0 <= low <= expected <= high
                if c["basis"] == "read":
                    assert low == expected == high
                assert c["formula"]
                assert c["source"] or c["basis"] == "read"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bound", ["low", "expected", "high"])
def test_a_peak_is_the_largest_phase_and_levels_nest(engine, bound):
    for device in report(engine=engine)["devices"]:
        sums = {
            level: max(
                sum(
                    c["bytes"][bound]
                    for c in p["components"]
                    if LEVELS.index(c["level"]) <= LEVELS.index(level)
                )
                for p in device["phases"]
            )
            for level in LEVELS
        }
        assert {level: device["peak"][level][bound] for level in LEVELS} == sums
        assert sums["allocated"] <= sums["reserved"] <= sums["driver"]
        for p in device["phases"]:
            assert p["bytes"][bound] == sum(c["bytes"][bound] for c in p["components"])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_settings_that_were_used_are_all_there(engine):
    found = report(engine=engine)
    workload = found["workload"]
    assert workload["engine"] == engine
    assert workload["engine_version"]
    assert (workload["context"], workload["batch_size"]) == (4096, 1)
    assert {"dtype", "quantization", "gpu", "gpu_memory", "headroom"} <= workload.keys()
    assert all(key == key.lower() and "-" not in key for key in workload)
    assert found["derived"]["kv_cache_bytes_per_token"] == 4 * 2 * 8 * 64 * 2


@pytest.mark.parametrize(
    ("model", "phases"),
    [("bge-m3", ["load", "prefill"]), ("bert-base-uncased", ["load", "prefill"]),
     ("t5-small", ["load", "prefill", "decode"]), ("whisper-small", ["load", "prefill", "decode"])],
)  # fmt: skip
def test_encoders_do_not_decode(model, phases):
    assert [p["name"] for p in gpus(report(model))[0]["phases"]] == phases


# Defaults.


def test_the_default_engine_is_transformers_in_the_newest_version():
    found = report()["workload"]
    assert found["engine"] == "transformers"
    assert found["engine_version"].startswith("5.")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_default_context_is_4096_or_the_maximum_of_the_model(engine):
    assert report("llama-3.1-8b", engine=engine)["workload"]["context"] == 4096
    assert report("gpt2", engine=engine)["workload"]["context"] == 1024


def test_a_default_context_is_printed_and_the_maximum_is_named(weighbridge):
    code, out, _ = weighbridge("infer", "llama-3.1-8b")
    assert code == 0
    assert "4,096" in out
    assert "131,072" in out


@pytest.mark.parametrize(
    ("flags", "context"),
    [
        (["--context", "8k"], 8000),
        (["--context", "8K"], 8192),
        (["--max-model-len", "8K"], 8192),
        (["--context=1024"], 1024),
        (["--prompt-len", "1000", "--max-new-tokens", "24"], 1024),
    ],
)
def test_spellings_of_a_context(weighbridge, flags, context):
    code, out, _ = weighbridge("infer", "llama-3.1-8b", *flags, "--json")
    assert code == 0
    assert json.loads(out)["workload"]["context"] == context


def test_a_context_beyond_the_maximum_is_said():
    assert any("8,192" in w for w in report(context=10_000)["warnings"])
    assert report(context=8192)["warnings"] == []


# Numbers, from one end to the other.


@pytest.mark.parametrize(
    ("model", "engine", "version", "context", "gib"),
    [
        ("llama-3-8b", "vllm", None, 32_768, 4.00),
        ("llama-3-8b", "sglang", None, 32_768, 4.00),
        ("llama-3-8b", "transformers", None, 32_768, 4.00),
        ("llama-3-8b", "llama.cpp", None, 32_768, 4.00),
        ("llama-2-7b", "transformers", None, 4096, 2.00),
        ("deepseek-v3", "vllm", None, 32_768, 2.14),
        ("deepseek-v3", "transformers", None, 32_768, 2.14),
        ("deepseek-v3", "transformers", "4.57", 32_768, 152.5),
        ("qwen3-0.6b", "transformers", None, 40_960, 4.38),
        ("falcon-7b", "transformers", None, 2048, 16 / 1024),
    ],
)
def test_caches_of_one_sequence(model, engine, version, context, gib):
    """The first table of what infer must show. One more token, block or page may be added."""
    found = report(model, engine=engine, engine_version=version, context=context)
    assert cached(found) / GIB == pytest.approx(gib, rel=0.006)


@pytest.mark.parametrize("slots", [(1, 3.11), (4, 4.33)])
def test_windows_of_llama_cpp_follow_the_slots(slots):
    parallel, gib = slots
    found = report(
        "gemma-3-27b", engine="llama.cpp", context=32_768, parallel=parallel, kv_unified=True
    )
    assert cached(found) / GIB == pytest.approx(gib, abs=0.005)


def test_windows_of_transformers_are_whole_behind_the_prompt():
    found = report("gemma-3-27b", prompt_len=32_768, max_new_tokens=0)
    assert cached(found, "prefill") / GIB == pytest.approx(15.5, abs=0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_more_context_is_never_less_memory(engine):
    peaks = [
        gpus(report(engine=engine, context=n))[0]["peak"]["driver"] for n in (512, 1024, 4096, 8192)
    ]
    for bound in ("low", "expected", "high"):
        assert sorted(p[bound] for p in peaks) == [p[bound] for p in peaks]
    assert cached(report(engine=engine, context=8192)) > cached(report(engine=engine, context=512))


@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang"])
def test_two_requests_hold_twice_the_cache(engine):
    """Up to a block and the pages of the engine's own."""
    one, two = (cached(report(engine=engine, batch_size=n)) for n in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_are_the_parameters(engine):
    found = report(engine=engine)
    exact = 2 * found["model"]["parameters"]
    assert total(found, "weights", "decode") == pytest.approx(
        exact, rel=0.35 if "llama" in engine else 0.02
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quantized_model_is_smaller(engine):
    """In a format that the engine has."""
    form = {"llama.cpp": "Q4_K_M", "ik_llama.cpp": "Q4_K_M", "sglang": "fp8-block"}.get(
        engine, "gptq-4bit-g128"
    )
    plain, packed = (total(report("llama-3.1-8b", engine=engine, **extra), "weights", "decode")
                     for extra in ({}, {"quantization": form}))  # fmt: skip
    assert packed < 0.65 * plain


@pytest.mark.parametrize("engine", SEVERAL)
@pytest.mark.parametrize("flag", ["tensor_parallel_size", "pipeline_parallel_size"])
def test_ranks_are_devices_and_hold_together_at_least_the_whole(engine, flag):
    one, two = (
        report("llama-3.1-8b", engine=engine),
        report("llama-3.1-8b", engine=engine, **{flag: 2}),
    )
    assert [d["kind"] for d in two["devices"]] == ["gpu", "gpu", "host"]
    assert [d["index"] for d in gpus(two)] == [0, 1]
    whole = total(one, "weights", "decode")
    assert whole <= total(two, "weights", "decode") <= 1.4 * whole
    most = max(d["peak"]["allocated"]["expected"] for d in gpus(two))
    assert most < gpus(one)[0]["peak"]["allocated"]["expected"]


@pytest.mark.parametrize("engine", SEVERAL)
def test_copies_each_hold_the_whole(engine):
    one, two = report(engine=engine), report(engine=engine, data_parallel_size=2)
    assert len(gpus(two)) == 2
    assert total(two, "weights", "decode") == 2 * total(one, "weights", "decode")


# A device.


@pytest.mark.parametrize("engine", ENGINES)
def test_a_device_brings_a_verdict(engine):
    found = report("llama-3.1-8b", engine=engine, gpu="a100-80gb")
    verdict = found["verdict"]
    assert {
        "accelerator",
        "count",
        "usable_bytes",
        "fits",
        "margin_bytes",
        "reason",
    } <= verdict.keys()
    assert (verdict["fits"], verdict["count"]) == ("yes", 1)
    peak = gpus(found)[0]["peak"]["driver"]
    assert peak["high"] <= verdict["usable_bytes"]
    assert verdict["margin_bytes"] == verdict["usable_bytes"] - peak["expected"]
    assert found["derived"]["largest_context"] >= found["workload"]["context"]
    whole = {"n_gpu_layers": -1} if engine in ("llama.cpp", "ollama") else {}  # else it is divided
    other = report("llama-3.1-70b", engine=engine, gpu="4090", **whole)
    assert other["verdict"]["fits"] == "no"


@pytest.mark.parametrize("engine", ENGINES)
def test_only_engines_that_take_a_share_have_two_answers(engine):
    assert all(d["taken"] is None for d in report(engine=engine)["devices"])
    taken = [d["taken"] for d in gpus(report("llama-3.1-8b", engine=engine, gpu="a100-80gb"))]
    if engine not in SHARING:
        assert taken == [None]
    else:
        assert 0.5 * 80 * 10**9 < taken[0] < 86 * 10**9


@pytest.mark.parametrize("engine", SHARING)
def test_the_pool_of_a_device_is_derived(engine):
    found = report("llama-3.1-8b", engine=engine, gpu="a100-80gb")["derived"]
    assert 200_000 < found["kv_cache_tokens"] < 600_000
    assert found["kv_cache_tokens"] / 4096 == pytest.approx(found["max_concurrency"], rel=0.02)


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_the_launch_is_a_command_that_we_read_again(engine):
    first = report("llama-3.1-8b", engine=engine, gpu="a100-80gb", context=8192)
    launch = parse(first["derived"]["launch"])
    assert launch.engine == engine or (engine, launch.engine) == ("ik_llama.cpp", "llama.cpp")
    assert launch.settings["context"] == 8192
    assert launch.unknown == ()


def test_a_size_of_memory_is_enough():
    assert report(gpu_memory="24GiB")["verdict"]["fits"] == "yes"
    assert report("llama-3.1-70b", gpu_memory="24GiB")["verdict"]["fits"] == "no"
    assert report("llama-3.1-8b", gpu="a100-80gb", headroom="70GiB")["verdict"]["fits"] == "no"


def test_four_small_devices_are_not_one_large():
    alone = report("llama-3.1-70b", engine="vllm", gpu="4x RTX 4090")
    spread = report("llama-3.1-70b", engine="vllm", gpu="h200")
    assert alone["verdict"]["fits"] == "no"
    assert spread["verdict"]["fits"] in ("yes", "unknown")


@pytest.mark.parametrize(
    ("cards", "tensor", "stages"), [(2, 2, 1), (8, 8, 1), (16, 8, 2), (24, 8, 3)]
)
def test_machines_are_stages_and_cards_within_one_share_tensors(cards, tensor, stages):
    workload = report("deepseek-v3", engine="vllm", gpu=f"h100:{cards}")["workload"]
    assert workload["tensor_parallel_size"] == tensor
    assert workload["pipeline_parallel_size"] == stages


def test_exit_codes_of_a_check(weighbridge):
    peak = gpus(report("llama-3.1-8b"))[0]["peak"]["driver"]
    assert peak["low"] < peak["expected"] < peak["high"]
    for memory, code in ((3 * peak["high"], 0), (peak["low"] // 2, 1), (peak["expected"], 4)):
        flags = ("infer", "llama-3.1-8b", "--gpu-memory", f"{memory}B")
        assert weighbridge(*flags, "--check", "-q")[0] == code
        assert weighbridge(*flags, "-q")[0] == 0


def test_a_check_needs_a_device(weighbridge):
    code, out, err = weighbridge("infer", "llama-3.1-8b", "--check")
    assert (code, out) == (2, "")
    assert "--gpu" in err


# Refusals.


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ({"engine": "vlm"}, ["'vlm'", "vllm"]),
        ({"engine_version": "newest"}, ["--engine-version", "'newest'"]),
        ({"engine": "vllm", "n_gpu_layers": 3}, ["--n-gpu-layers", "llama.cpp", "vllm"]),
        ({"engine": "llama.cpp", "gpu_memory_utilization": 0.9}, ["--gpu-memory-utilization", "vllm"]),
        ({"engine": "transformers", "tensor_parallel_size": 2}, ["--tensor-parallel-size", "transformers"]),
        ({"engine": "sglang", "num_beams": 2}, ["--num-beams", "transformers"]),
        ({"context": 0}, ["--context"]),
        ({"context": "long"}, ["--context", "8K"]),
        ({"batch_size": -1}, ["--batch-size"]),
        ({"context": 100, "prompt_len": 90, "max_new_tokens": 20}, ["100", "110"]),
        ({"gpu": "rtx 9999"}, ["9999"]),
        ({"contxt": 100}, ["contxt", "context"]),
        ({"kv_cache_dtype": "int3"}, ["int3"]),
        ({"quantization": "q9km"}, ["q9km"]),
        ({"dtype": "float12"}, ["float12"]),
        ({"command": "make coffee"}, ["no engine"]),
    ],
)  # fmt: skip
def test_refusals_are_one_line_that_names_what_to_do(workload, words):
    code, message = refused(**workload)
    assert code == 2
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer"],
        ["infer", "./no-such-folder"],
        ["infer", "llama-3.1-8b", "--engine", "vlm"],
        ["infer", "llama-3.1-8b", "--no-such-flag"],
        ["infer", "llama-3.1-8b", "--engine", "vllm", "-ngl", "3"],
        ["infer", "llama-3.1-8b", "--command", "vllm bench serve --model x"],
        ["infer", "resnet-50", "--engine", "vllm"],
    ],
)
def test_wrong_usage_exits_with_2_and_one_line(weighbridge, arguments):
    code, out, err = weighbridge(*arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert "defect" not in err


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        ("vllm", "0.5.0"),
        ("vllm", "1.7"),
        ("sglang", "0.2"),
        ("transformers", "4.1"),
        ("llama.cpp", "b100"),
    ],
)
def test_an_unknown_version_uses_the_nearest_and_says_so(engine, version):
    found = report(engine=engine, engine_version=version)
    assert any(engine in w and version in w for w in found["warnings"])


@pytest.mark.parametrize(
    ("engine", "model", "old", "new"),
    [("transformers", "deepseek-v3", "4.57", "5.23"), ("vllm", "gpt-oss-20b", "0.19", "0.33")],
)
def test_versions_differ(engine, model, old, new):
    then, now = (
        cached(report(model, engine=engine, engine_version=v, context=32_768)) for v in (old, new)
    )
    assert then != now


# A launch command.


@pytest.mark.parametrize(
    ("command", "engine", "context"),
    [
        ("vllm serve llama-3.1-8b --max-model-len 8K", "vllm", 8192),
        ("vllm serve llama-3.1-8b --max-model-len 8k", "vllm", 8000),
        ("vllm serve llama-3.1-8b", "vllm", 131_072),
        ("python -m sglang.launch_server --model-path llama-3.1-8b --context-length 8192", "sglang", 8192),
        ("llama-server -m llama-3.1-8b -c 8192 -np 1 -fa on", "llama.cpp", 8192),
        ("llama-server -m llama-3.1-8b -c 8192 -np 1 -fa on -fmoe -mla 2", "ik_llama.cpp", 8192),
    ],
)  # fmt: skip
def test_a_command_is_read_with_the_engines_meaning(command, engine, context):
    found = report(None, command=command)
    assert (found["workload"]["engine"], found["workload"]["context"]) == (engine, context)
    assert found["model"]["name"] == report("llama-3.1-8b", engine=engine)["model"]["name"]
    told = found["derived"]["command"]
    assert {"engine", "program", "ignored", "unknown", "defaults"} <= told.keys()
    json.dumps(told)


def test_a_command_and_its_settings_give_the_same_answer():
    said = report(
        None,
        command="vllm serve llama-3.1-8b -tp 2 --max-model-len 8192 --max-num-seqs 8 --enforce-eager",
    )
    by_name = report("llama-3.1-8b", engine="vllm", tensor_parallel_size=2, context=8192, max_num_seqs=8, enforce_eager=True)  # fmt: skip
    assert said["devices"] == by_name["devices"]
    assert said["workload"] == by_name["workload"]


def test_flags_beside_a_command_win(weighbridge):
    code, out, _ = weighbridge(
        "infer",
        "--command",
        "vllm serve llama-3.1-8b --max-model-len 8192",
        "--context",
        "1K",
        "--json",
    )
    assert code == 0
    assert json.loads(out)["workload"]["context"] == 1024


def test_vllms_q_is_quantization_and_ours_is_quiet(weighbridge):
    code, out, _ = weighbridge(
        "infer", "--command", "vllm serve llama-3.1-8b -q fp8", "--context", "1K", "-q"
    )
    assert (code, out.strip().isdigit()) == (0, True)
    plain = weighbridge("infer", "--command", "vllm serve llama-3.1-8b", "--context", "1K", "-q")[1]
    assert int(out) < 0.7 * int(plain)


def test_what_a_command_says_for_nothing_is_told(weighbridge):
    line = "vllm serve llama-3.1-8b --max-model-len 8K --port 8000 --made-up 5"
    line += """ --hf-overrides '{"rope_theta": 1e6}'"""
    code, _out, err = weighbridge("infer", "--command", line)
    assert code == 0
    assert "--made-up" in err
    assert "--hf-overrides" in err
    found = report(None, command=line)
    assert list(found["derived"]["command"]["ignored"]) == ["--port"]
    assert list(found["derived"]["command"]["unknown"]) == ["--made-up"]


# Ways in and out.


def test_quiet_is_one_number(weighbridge):
    code, out, err = weighbridge("infer", "llama-3.1-8b", "-q")
    assert (code, err) == (0, "")
    found = json.loads(weighbridge("infer", "llama-3.1-8b", "--json")[1])
    assert int(out) == gpus(found)[0]["peak"]["driver"]["expected"]


def test_stdout_is_data_and_stderr_is_talk(weighbridge):
    code, out, err = weighbridge("infer", "llama-3.1-8b", "--context", "200K")
    assert code == 0
    assert "warning: " in err
    assert "warning: " not in out
    code, out, err = weighbridge("infer", "llama-3.1-8b", "--context", "200K", "--json")
    assert err == ""
    assert json.loads(out)["warnings"]


@pytest.mark.parametrize("form", ["human", "json", "markdown", "quiet"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_form_of_every_engine(weighbridge, form, engine):
    code, out, _ = weighbridge(
        "infer", "llama-3.1-8b", "--engine", engine, "--gpu", "4090", "--format", form
    )
    assert code == 0
    assert out.strip()
    assert "\x1b" not in out


def test_the_text_shows_the_numbers_of_the_json(weighbridge):
    peak = gpus(report("llama-3.1-8b", engine="vllm"))[0]["peak"]["driver"]["expected"]
    for unit, size in (("GiB", GIB), ("MiB", 1 << 20), ("GB", 10**9)):
        out = weighbridge("infer", "llama-3.1-8b", "--engine", "vllm", "--unit", unit)[1]
        assert f"{peak / size:,.2f}" in out


def test_explain_shows_every_formula(weighbridge):
    out = weighbridge("infer", "llama-3.1-8b", "--engine", "vllm", "--explain")[1]
    joined = " ".join(out.split())
    for c in components(report("llama-3.1-8b", engine="vllm"), "kv_cache"):
        assert " ".join(c["formula"].split())[:40] in joined


def test_help_names_every_flag_of_the_contract(weighbridge):
    out = weighbridge("infer", "--help-all")[1]
    for flag in (
        *("--engine", "--engine-version", "--context", "--max-model-len", "--prompt-len"),
        *("--max-new-tokens", "--batch-size", "--image-size", "--images", "--audio-seconds"),
        *("--kv-cache-dtype", "--kv-cache-memory-bytes", "-tp", "--tensor-parallel-size", "-pp"),
        *("--pipeline-parallel-size", "-dp", "--data-parallel-size", "--enable-expert-parallel"),
        *("--gpu-memory-utilization", "--max-num-batched-tokens", "--max-num-seqs"),
        *(
            "--n-gpu-layers",
            "--n-cpu-moe",
            "--ubatch-size",
            "--parallel",
            "--attention",
            "--command",
        ),
        *("--revision", "--token", "--cache-dir", "--offline", "--trust-remote-code", "--dtype"),
        *("--quantization", "--gpu", "--gpu-memory", "--headroom", "--base-model", "--unit"),
        *("--explain", "--check", "--format", "--json", "-q"),
    ):
        assert flag in out, flag


def test_requests_are_answered_in_order_and_go_on_after_an_error():
    lines = [
        {"task": "infer", "model": "llama-3.1-8b", "workload": {"engine": "vllm", "context": "8K"}},
        {"task": "infer", "model": "llama-3.1-8b", "workload": {"engine": "vlm"}},
        {"task": "load", "model": "llama-3.1-8b"},
        {"task": "infer", "workload": {"command": "vllm serve llama-3.1-8b --max-model-len 8K"}},
        {"task": "infer"},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "weighbridge", "run", "-"],
        input="\n".join(map(json.dumps, lines)), capture_output=True, text=True, check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 2, "some lines failed"
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [f.get("task", "error") for f in found] == ["infer", "error", "load", "infer", "error"]
    assert found[1]["error"]["code"] == found[4]["error"]["code"] == 2
    assert found[0]["devices"] == found[3]["devices"]


def test_three_ways_of_asking_are_one_answer(weighbridge):
    flags = ("--engine", "vllm", "--context", "8K", "--gpu", "h100", "-tp", "1")
    typed = json.loads(weighbridge("infer", "llama-3.1-8b", *flags, "--json")[1])
    requested = report(
        "llama-3.1-8b", engine="vllm", context="8K", gpu="h100", tensor_parallel_size=1
    )
    called = package.infer(
        "llama-3.1-8b", engine="vllm", context="8K", gpu="h100", tensor_parallel_size=1
    )
    assert typed == requested == json.loads(json.dumps(called.to_dict()))
    assert called.peak.expected == gpus(typed)[0]["peak"]["driver"]["expected"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_question_has_the_same_answer(engine):
    asked.cache_clear()
    first = json.dumps(report("gpt-oss-20b", engine=engine, gpu="h100"))
    asked.cache_clear()
    assert json.dumps(report("gpt-oss-20b", engine=engine, gpu="h100")) == first


def test_a_config_and_the_name_of_its_model_agree():
    request = {"task": "infer", "model": {"config": find("llama-3.1-8b").config}}
    by_config = Requests().answer(json.dumps({**request, "workload": {"engine": "vllm"}}))
    assert by_config["devices"] == report("llama-3.1-8b", engine="vllm")["devices"]


def test_inference_needs_no_torch():
    code = (
        "from weighbridge.faces.cli.menu import run; import sys; "
        "run(['infer', 'llama-3.1-8b', '-q', '--engine', 'vllm', '--gpu', 'h100']); "
        "print(*sorted({'torch', 'numpy', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, loaded = done.stdout.split("\n")[:2]
    assert number.isdigit()
    assert loaded == ""


@pytest.mark.parametrize("size", ["7B", "45B"])
def test_a_bare_size_is_answered_and_marked_rough(size):
    found = report(size, context="8K")
    assert found["model"]["rough"] is True
    assert found["workload"]["context"] == 8192
    for weights in components(found, "weights"):
        assert weights["bytes"]["low"] < weights["bytes"]["expected"] < weights["bytes"]["high"]


def test_a_command_and_an_engine_that_differ_are_refused():
    """A fork has its parent's programs, and a spelling is a name."""
    line = "vllm serve Qwen/Qwen3-0.6B"
    with pytest.raises(UsageError, match="the command launches vllm, and --engine says sglang"):
        package.infer(command=line, engine="sglang")
    assert package.infer(command=line, engine="VLLM").workload["engine"] == "vllm"
    of_parent = "llama-server -m qwen3-0.6b.gguf"
    _one_engine(parse(of_parent), "ik_llama.cpp")
    with pytest.raises(UsageError, match=r"launches llama\.cpp"):
        _one_engine(parse(of_parent), "ollama")
