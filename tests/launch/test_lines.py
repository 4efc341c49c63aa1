"""Engines' own command lines, as people post them."""

import json
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.words import entries, words_in
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.programs import dialect
from weighbridge.engines.table import ENGINES
from weighbridge.settings.setting import fields
from weighbridge.workload import INFER, Infer, engines_of, foreign, read

DIALECTS = {e.name: dialect(e) for e in ENGINES.values() if e.programs}

# Lines of others with what each says of a run; `devices` null where the line does not say
POSTED = [
    json.loads(line) for line in (Path(__file__).parent / "posted.jsonl").read_text().splitlines()
]


@all_of("row", POSTED)
def test_as_posted(row):
    """Every setting has a row in our table, a value that it takes, and belongs to the engine."""
    found = parse(row["line"])
    told = {name: getattr(found, name) for name in row if name != "line"}
    assert {"line": row["line"], **told} == row
    assert found.unknown == ()
    foreign(read("infer", {"engine": found.engine, **found.settings}), found.engine)


# Values that flags take, by what reads them.
KINDS = {
    "whole": "2", "count": "2k", "bytes": "2G", "number": "0.5", "word": "x", "dtype": "half", "many": "2",
}  # fmt: skip
SPECIAL = {
    "context": "4096", "quantization": "fp8", "limits": '{"image": 1}', "loras": "2", "lora_rank": "8",
    "captures": "8", "compilation": '{"mode": 3}', "optimization": "2", "prefill_context": "1",
    "speculative": '{"method": "ngram", "num_speculative_tokens": 2}', "spec_method": "mtp",
    "spec_num_speculative_tokens": "2", "torchao": "int8wo", "copies": "2", "attention_copies": "2",
    "steps": "2", "draft_tokens": "2", "topk": "1", "algorithm": "NGRAM", "flash": "on",
    "layers": "9", "slots": "2", "split": "row", "shares": "1,1", "devices": "CUDA0",
    "load_mode": "none", "placed": "exps=CPU", "data_local": "1",
}  # fmt: skip
BASE = {
    "vllm": "vllm serve m",
    "sglang": "python -m sglang.launch_server --model-path m",
    "llama.cpp": "llama-server -m m",
    "ik_llama.cpp": "llama-server -m m -no-gr",
}


def sample(flag):
    if flag.takes == "switch":
        return []
    if flag.takes == "pair":
        return ["1", "2"]
    if "--n-cpu-moe" in flag.names:
        return ["2"]
    if flag.effect == "@":
        return [SPECIAL.get(flag.detail, "x")]
    return [KINDS.get(flag.kind, "x")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", BASE)
def test_every_flag_is_taken_and_accounted_for(engine):
    """Each is a setting, ignored, or a warning; none disappears and none is unknown."""
    base = parse(BASE[engine])
    lost = []
    for name, flag in DIALECTS[engine].flags.items():
        found = parse(shlex.join([*shlex.split(BASE[engine]), name, *sample(flag)]))
        assert found.unknown == (), name
        assert found.engine == engine, name
        if found == base:
            lost.append(name)
    assert [n for n in lost if n not in ("-m", "--model", "--model-path", "-no-gr")] == []


def test_what_a_flag_or_a_variable_changes_that_is_not_modelled_is_told_in_two_languages():
    """And each such sentence is of some flag or variable."""
    spoken = (*DIALECTS.values(), dialect(ENGINES["ollama"]))
    told = {f"flag.{why}" for d in spoken for why in d.env.values() if why}
    flags = [flag for d in spoken for flag in d.flags.values()]
    told |= {f"flag.{flag.detail}" for flag in flags if flag.effect in "!~"}
    assert told == {key for key in entries("warnings") if key.startswith("flag.")}
    (line,) = parse("vllm serve a/b --enable-dbo").warnings
    assert line == "--enable-dbo is not modelled: a step in two halves"
    assert words_in("zh").told(line) == "未计入 --enable-dbo：一步分成两半"


@pytest.mark.parametrize("engine", BASE)
def test_every_field_that_a_flag_sets_is_one_of_ours(engine):
    ours = fields(Infer).keys()
    for name, flag in DIALECTS[engine].flags.items():
        if flag.effect == "=":
            assert flag.detail in ours, name
            of = engines_of(INFER[flag.detail])
            assert not of or engine in of, name


@pytest.mark.parametrize(
    ("engine", "least"), [("vllm", 300), ("sglang", 530), ("llama.cpp", 280), ("ik_llama.cpp", 350)]
)
def test_tables_are_whole(engine, least):
    """0.33.0 has 254 options in its engine arguments and 60 in its server's; sglang 0.5.23 has 546
    fields; llama.cpp has 355 options over all its programs."""
    assert len({f.names for f in DIALECTS[engine].flags.values()}) >= least


def test_vllm_q_is_quantization():
    assert parse("vllm serve a/b -q bitsandbytes").settings == {"quantization": "nf4"}
    assert parse("vllm serve a/b -q awq").settings == {"quantization": "awq"}
    assert parse("vllm serve a/b -q gptq").ignored == ("-q",)
    assert "mystery" in parse("vllm serve a/b -q mystery").warnings[0]


def test_switches_have_opposites_in_vllm_alone():
    assert parse("vllm serve m --no-enforce-eager").settings == {"enforce_eager": False}
    assert parse("vllm serve m --disable-expert-parallel").settings == {
        "enable_expert_parallel": False
    }
    assert parse("vllm serve m --enforce-eager=false").settings == {"enforce_eager": False}
    assert parse("sglang serve m --no-disable-radix-cache").unknown == ("--no-disable-radix-cache",)


def test_only_chunked_prefill_switched_off_matters():
    assert parse("vllm serve m --enable-chunked-prefill").ignored == ("--enable-chunked-prefill",)
    for off in ("--no-enable-chunked-prefill", "--disable-chunked-prefill"):
        assert off in parse(f"vllm serve m {off}").warnings[0]


def test_what_is_not_modelled_is_said():
    found = parse("vllm serve m --enable-eplb --config c.yaml --hf-overrides '{\"a\":1}'")
    assert [w.split(" is not modelled")[0] for w in found.warnings] == [
        "--enable-eplb", "--config", "--hf-overrides",
    ]  # fmt: skip


def test_an_unknown_flag_is_a_warning_with_the_nearest():
    found = parse("vllm serve m --max-model-length 8192 --port 80")
    assert found.unknown == ("--max-model-length",)
    assert "--max-model-len" in found.warnings[0]
    assert found.ignored == ("--port",)


@all_of(
    ("old", "new"),
    [
        ("--mamba-scheduler-strategy extra_buffer", "--mamba-radix-cache-strategy extra_buffer"),
        ("--nsa-prefill-backend tilelang", "--dsa-prefill-backend tilelang"),
        ("--nsa-decode-backend trtllm", "--dsa-decode-backend trtllm"),
        ("--enable-nsa-prefill-context-parallel", "--enable-prefill-cp"),
        ("--piecewise-cuda-graph-tokens 4 8", "--cuda-graph-bs-prefill 4 8"),
    ],
)
def test_an_old_name_of_a_flag_is_read_as_the_new_one(old, new):
    """sglang 0.5.19 srt/server_args.py has both; argparse of 0.5.20 has the new ones alone."""
    flag, name = old.split()[0], new.split()[0]
    renamed = f"{flag} is {name} since sglang 0.5.20, which does not take the old name"
    before, after = parse(f"sglang serve m {old}"), parse(f"sglang serve m {new}")
    assert before.unknown == before.stops == ()
    assert before.settings == after.settings
    assert before.warnings[-1] == renamed
    assert len(before.warnings) == len(after.warnings) + 1
    for release, stops in (("0.5.19", ()), ("0.5.20", (("no", renamed),))):
        image = f"docker run --gpus all lmsysorg/sglang:v{release} sglang serve m"
        assert tuple(each[:2] for each in parse(f"{image} {old}").stops) == stops
        assert parse(f"{image} {new}").stops == ()


def test_unique_beginnings_are_completed_as_argparse_does():
    assert parse("sglang serve m --mem-frac 0.8 --context-len 4096").settings == {
        "mem_fraction_static": 0.8, "context": 4096,
    }  # fmt: skip
    assert parse("sglang serve m --sp x").unknown == ("--sp",)
    assert parse("llama-server -m x --ctx 5").unknown == ("--ctx",)


def test_code_of_the_repository_is_never_run_and_the_revision_is_handed_on():
    found = parse(
        "vllm serve a/b --trust-remote-code --revision abc --served-model-name x y --tokenizer c/d"
    )
    assert "not obeyed" in found.warnings[0]
    assert (found.revision, found.served) == ("abc", {"name": "x y"})
    assert found.ignored == ("--tokenizer", "--served-model-name")


def test_ranks_that_the_environment_does_not_leave():
    found = parse("CUDA_VISIBLE_DEVICES=0 vllm serve a/b -tp 2")
    assert found.devices == 2
    assert found.warnings == ("the command needs 2 devices, and it sees 1",)


def test_variables_that_matter_are_named_and_secrets_are_not_shown():
    found = parse(
        "HF_TOKEN=hf_secret PYTORCH_CUDA_ALLOC_CONF=x VLLM_ATTENTION_BACKEND=FLASHINFER vllm serve a/b --api-key sk-secret"
    )
    assert "PYTORCH_CUDA_ALLOC_CONF" in found.warnings[0]
    assert found.settings == {"attention_backend": "FLASHINFER"}
    assert "secret" not in repr(found)
    assert set(found.ignored) == {"--api-key", "HF_TOKEN"}
    assert "LLAMA_ARG_CTX_SIZE" in parse("LLAMA_ARG_CTX_SIZE=8192 llama-server -m x").warnings[0]


def test_defaults_follow_the_version_and_what_is_said():
    new = {name: value for name, value, _ in parse("vllm serve a/b").defaults}
    old = {
        name: value
        for name, value, _ in parse("docker run vllm/vllm-openai:v0.19.0 --model a/b").defaults
    }
    assert (old["gpu_memory_utilization"], new["gpu_memory_utilization"]) == (0.9, 0.92)
    assert "context" in new
    assert "context" not in {d[0]: 1 for d in parse("vllm serve a/b --max-model-len 9").defaults}


def test_a_share_of_the_context_per_slot():
    """-c is of all slots; a unified cache is one for all of them."""
    assert parse("llama-server -m x -c 32768 -np 4").settings["context"] == 8192
    assert parse("llama-server -m x -c 32768 -np 4 -kvu").settings["context"] == 32_768
    assert parse("llama-server -m x -c 32768").settings["context"] == 32_768
    assert "--ctx-size" in parse("llama-server -m x -np 4").warnings[0]


PLACED = [
    ("-ot exps=CPU -ot attn=CUDA1", "exps=CPU,attn=CUDA1", None, 2),
    (r"-ot 'blk\.[0-6]\.ffn=CUDA3,exps=CPU' -ncmoe 4", r"blk\.[0-6]\.ffn=CUDA3,exps=CPU", 4, 4),
    ("-ncmoe 4", None, 4, None),
    ("-ncmoe 4 -ncmoe 0 -ot x=CUDA0", r"blk\.([0-3])\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,x=CUDA0", None, None),
    ("-cmoe -ot x=CPU", r"\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,x=CPU", None, None),
    ("-ot x=CPU -cmoe", "x=CPU", 999, None),
    ("-cmoe -ncmoe 3", None, 999, None),  # both are there
    ("-ncmoe 3 -ncmoe 9 -ncmoe 5", None, 9, None),
    ("-fmoe -ncmoe 4 -ot x=CPU", "x=CPU", 4, None),  # ik_llama.cpp: behind them wherever it stands
    ("-ot x=CUDA2 -ts 1,1", "x=CUDA2", None, 2),
]  # fmt: skip


@all_of(("flags", "patterns", "lent", "devices"), PLACED)
def test_patterns_are_kept_in_their_order(flags, patterns, lent, devices):
    """The first pattern that is found decides: to llama.cpp --n-cpu-moe is one of them."""
    found = parse(f"llama-server -m x {flags}")
    said = found.settings
    assert (said.get("override_tensor"), said.get("n_cpu_moe") or None) == (patterns, lent)
    assert (found.devices, found.warnings) == (devices, ())


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("", "launches no engine"),
        ("echo hello", "launches no engine"),
        ("vllm bench serve --model a/b", "vllm bench"),
        ("vllm", "does not launch"),
        ("vllm serve", "names no model"),
        ("vllm serve $MODEL", "the shell"),
        ("vllm serve a/b --max-model-len", "without its value"),
        ("vllm serve a/b --max-model-len --port 80", "without its value"),
        ("vllm serve a/b --max-model-len lots", "32768"),
        ("vllm serve a/b --max-model-len 25.6K", "32768"),
        ("vllm serve a/b --max-model-len ${LEN}", "write the value"),
        ("vllm serve a/b --dtype int8", "bfloat16"),
        ("vllm serve a/b -tp two", "a whole number"),
        ("vllm serve a/b --gpu-memory-utilization 90%", "a number"),
        ("vllm serve a/b --speculative-config '{method: mtp}'", "a JSON object"),
        ("vllm serve a/b --speculative-config [1]", "a JSON object"),
        ("""vllm serve a/b --speculative-config '{"method": "eagle"}'""", "with the draft"),
        ("vllm serve a/b --compilation-config '" + "[" * 20_000 + "'", "a JSON object"),
        ("vllm serve 'a/b", "does not close"),
        ("vllm serve a/b \u2014max-model-len 5", "typographic dash"),
        ("vllm serve a/b && vllm serve c/d", "2 servers"),
        ("vllm serve " + "x" * 70_000, "64 KiB"),
        ("llama-server -c 4096", "names no model"),
        ("llama-server -m x -sm diagonal", "none, layer or row"),
        ("llama-server -m x -ngl some", "a whole number"),
        ("docker run --gpus all", "names no image"),
        ("docker run nginx", "not an image"),
        ("docker run vllm:nightly", "without a program"),
    ],
)
def test_what_cannot_be_read_is_one_line(command, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse(command)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_other_programs_are_not_yet():
    with pytest.raises(UnsupportedError, match="nearest is"):
        parse("llama-bench -m x")


# Laws.

VLLM = [
    ["-tp", "2"], ["--max-model-len", "32k"], ["--enforce-eager"], ["--kv-cache-dtype", "fp8"],
    ["--limit-mm-per-prompt", '{"image": 2}'], ["--port", "80"], ["--no-enable-prefix-caching"],
    ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}'], ["--made-up", "5"],
    ["--enable-lora"], ["--max-loras", "3"], ["--hf-overrides", '{"a": "b c"}'], ["-q", "fp8"],
]  # fmt: skip
LLAMA = [
    ["-c", "32768"], ["-np", "4"], ["-fa", "on"], ["-ngl", "all"], ["-ot", "exps=CPU"], ["-ub", "1024"],
    ["-ctk", "q8_0"], ["--no-mmap"], ["--made-up"], ["-ts", "3,1"], ["--port", "80"], ["-kvu"],
]  # fmt: skip
SGLANG = [
    ["--tp", "4"], ["--context-length", "8192"], ["--disable-radix-cache"], ["--dp", "2"],
    ["--speculative-algorithm", "NEXTN"], ["--speculative-num-steps", "2"], ["--page-size", "64"],
    ["--enable-dp-attention"], ["--port", "80"], ["--made-up"],
]  # fmt: skip


def as_sets(found):
    return (
        found.engine, found.model, found.settings, found.devices, found.defaults,
        set(found.ignored), set(found.unknown), set(found.warnings),
    )  # fmt: skip


CASES = st.sampled_from(
    [("vllm serve m", VLLM), ("llama-server -m m", LLAMA), ("sglang serve m", SGLANG)]
)


@pytest.mark.slow
@given(CASES.flatmap(lambda case: st.tuples(st.just(case), st.permutations(case[1]))))
def test_the_order_of_flags_does_not_matter(drawn):
    (start, flags), mixed = drawn

    def of(flags):
        return parse(f"{start} {shlex.join([w for flag in flags for w in flag])}")

    assert as_sets(of(mixed)) == as_sets(of(flags))


@pytest.mark.slow
@given(CASES, st.data())
def test_glued_values_and_quotes_do_not_matter(case, data):
    start, flags = case
    chosen = data.draw(st.lists(st.sampled_from(flags), unique_by=tuple))
    apart = parse(f"{start} {shlex.join([w for flag in chosen for w in flag])}")
    glued = parse(f"{start} {shlex.join(['='.join(flag) for flag in chosen])}")
    quoted = " ".join(f'"{w}"' if '"' not in w else f"'{w}'" for flag in chosen for w in flag)
    assert as_sets(glued) == as_sets(apart)
    assert as_sets(parse(f"{start} \\\n  {quoted}")) == as_sets(apart)


@pytest.mark.slow
@given(st.text(max_size=200))
def test_no_text_breaks_it(text):
    for command in (text, f"vllm serve {text}", f"llama-server -m x {text}", f"docker run {text}"):
        with suppress(UsageError):
            parse(command)


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(sorted(DIALECTS["vllm"].flags)), max_size=12),
    st.text("0ak{}[]:\"',.-$ ", max_size=20),
)
def test_no_value_breaks_it(flags, value):
    with suppress(UsageError):
        parse(f"vllm serve m {' '.join(f'{f} {shlex.quote(value)}' for f in flags)}")


def test_a_word_that_flash_attention_does_not_take():
    """-fa was a switch: what follows it is its value only where it can be."""
    found = parse("llama-server -fa -m x")
    assert (found.model, found.settings["flash_attn"]) == ("x", "on")
    assert "'maybe' belongs to no flag" in parse("llama-server -m x -fa maybe").warnings[0]


@pytest.mark.slow
def test_many_unknown_flags_do_not_take_long():
    found = parse("vllm serve m " + " ".join(f"--x{n}" for n in range(8000)))
    assert len(found.unknown) == 8000


@pytest.mark.slow
def test_nothing_heavy_is_imported():
    code = "import weighbridge.engines.launch, sys; print(*sorted({'torch', 'numpy', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_flags_of_one_name_and_two_meanings():
    """--color was a switch; ik_llama.cpp's -dr is a dry run, llama.cpp's a repository."""
    assert parse("llama-cli --color -m x").model == "x"
    assert parse("llama-cli --color on -m x").warnings == ()
    assert parse("llama-server -dr -m x -mla 3").model == "x"
    with pytest.raises(UnsupportedError):
        parse("llama-server -dr ai/smollm2")


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve Qwen/Qwen2.5-7B-Instruct --port 8111--gpu-memory-utilization 0.5",
        "vllm serve Qwen/Qwen2.5-7B-Instruct --port=8111--gpu_memory_utilization=0.5",
        "vllm serve Qwen/Qwen2.5-7B-Instruct--gpu-memory-utilization 0.5",
    ],
)
def test_a_flag_that_hangs_on_a_value_is_an_error(line):
    """What it sets was dropped in silence."""
    with pytest.raises(UsageError, match=r"a blank is missing in .* before --gpu-memory-utiliza"):
        parse(line)


def test_two_dashes_in_a_value_are_no_flag():
    found = parse("vllm serve models--org--name --served-model-name a--b --max-model-len 8192")
    assert (found.model, found.settings["context"]) == ("models--org--name", 8192)


def test_awq_of_a_line_chooses_its_kernels():
    """vllm quantization/awq_marlin.py: awq forces them, awq_marlin and no word do not."""
    line = "vllm serve Qwen/Qwen2.5-72B-Instruct-AWQ --quantization"
    assert parse(f"{line} AWQ").settings["quantization"] == "awq"
    assert "--quantization" not in parse(f"{line} awq").ignored
    other = parse(f"{line} awq_marlin")
    assert "quantization" not in other.settings
    assert "--quantization" in other.ignored
    assert other.stored_as == "--quantization awq_marlin"


@all_of(
    "command",
    [
        "vllm serve a/b {}",
        "python -m sglang.launch_server --model-path a/b {}",
        "llama-server -hf a/b {}",
        "ollama run a:b {}",
        "mlx_lm.generate --model a/b {}",
    ],
)
def test_a_flag_that_is_not_known_is_told_alike(command):
    found = parse(command.format("--qqqqqqqqq"))
    said = f"--qqqqqqqqq is no flag of {found.engine} that we know"
    assert said in found.warnings
    assert ("beside", said) in [each[:2] for each in found.stops]


def test_a_flag_that_is_nearly_known_is_asked_about():
    found = parse("vllm serve a/b --max-modl-len 3")
    assert found.warnings == (
        "--max-modl-len is no flag of vllm that we know; did you mean --max-model-len?",
    )


@pytest.mark.parametrize("program", ["vllm serve", "python -m sglang.launch_server --model-path"])
def test_a_method_that_is_not_modelled_is_told_in_two_languages(program):
    (line,) = parse(f"{program} m --quantization strange").warnings
    assert (
        line == "--quantization 'strange' is not modelled: weights are counted as they are stored"
    )
    assert words_in("zh").told(line).startswith("未计入 --quantization 'strange'")


DECIDE = [
    "--hf-overrides '{\"num_hidden_layers\":300}'",
    "--config x.yaml",
    "--some-new-offload",
    "-q some_new_quant",
]


@pytest.mark.parametrize("flag", DECIDE)
@pytest.mark.parametrize(("model", "answer"), [("8B", "yes"), ("70B", "no")])
def test_what_decides_and_is_not_read_leaves_no_sure_answer(flag, model, answer):
    """Whether the flag is known or not: neither "fits" nor "physical" stands beside it."""
    line = f"vllm serve meta-llama/Llama-3.1-{model} --max-model-len 4096"
    sure = weighbridge.infer(command=line, gpu="h100", offline=True).verdict
    assert (sure.fits, sure.ground) == (answer, "physical" if answer == "no" else "")
    found = weighbridge.infer(command=f"{line} {flag}", gpu="h100", offline=True).verdict
    assert (found.fits, found.ground) == ("unknown", "")
    assert any(c.opens == "either" for c in found.conditions)


@pytest.mark.parametrize(
    ("model", "flag", "fits"),
    [
        ("70B", "--some-new-flag", "no"),  # 131 GiB of weights on a card of 80
        ("70B", "--quantisation fp8", "unknown"),  # one that may make them smaller
        ("70B", "$MORE", "unknown"),
        ("8B", "--some-new-flag", "unknown"),
    ],
)
def test_a_flag_that_is_not_known_leaves_a_no_of_weights_alone(model, flag, fits):
    line = f"vllm serve meta-llama/Llama-3.1-{model} --max-model-len 4096 {flag}"
    found = weighbridge.infer(command=line, gpu="h100", offline=True)
    assert found.verdict.fits == fits
    assert found.derived["command"]["unknown"] == (() if "$" in flag else (flag.split()[0],))
    card = found.verdict.usable.high
    assert (found.peak.low > card) is (model == "70B")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "fits"), [("", "no"), ("--nnodes 2 --node-rank 1 --headless", "unknown")]
)
def test_cards_that_are_missing_may_be_on_other_machines(flags, fits):
    """What one card lacks stays a no: 405 B on four cards."""
    for model, answer in (("70B", fits), ("405B", "no")):
        line = f"vllm serve meta-llama/Llama-3.1-{model} -tp 4 --max-model-len 4096 {flags}"
        found = weighbridge.infer(command=line, gpu="h100:2", offline=True).verdict
        assert (found.fits, found.ground) == (answer, "" if answer == "unknown" else "physical")


def test_a_machine_of_several_runs_its_own_copies():
    """vLLM's page of data parallelism, node 1: two ranks of four run here."""
    line = (
        "vllm serve meta-llama/Llama-3.1-8B --max-model-len 4096 --headless --data-parallel-size 4 "
        "--data-parallel-size-local 2 --data-parallel-start-rank 2"
    )
    found = weighbridge.infer(command=line, gpu="h100:2", offline=True)
    assert (found.verdict.fits, found.verdict.devices_used) == ("yes", 2)
    assert weighbridge.infer(command=line, gpu="h100", offline=True).verdict.fits == "no"
