"""Every line to paste, read back and sized again: the same answer, for every engine and format."""

import json
import shlex
from functools import cache

import pytest

import weighbridge
from tests import packings
from tests.cases import all_of, some
from tests.formats.build_gguf import Writer
from tests.sparse import write_repo
from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.faces.cli.menu import run
from weighbridge.models.quantization.schemes import NAMES
from weighbridge.workload import INFER, engines_of

MODEL = "qwen3-0.6b"
ENGINES = ("transformers", "vllm", "sglang", "llama.cpp", "ik_llama.cpp")
# What a request is made of, or the machine: no flag of a launch.
BESIDE = {
    *("engine", "engine_version", "torch_version", "batch_size", "prompt_len", "shared_prefix"),
    *("image_size", "images", "audio_seconds", "gpu", "gpu_memory", "headroom"),
}
LLAMA_CPP = ("llama.cpp", "ik_llama.cpp")


@cache
def prepared(model):
    return weighbridge.prepare(model, offline=True)


def again(report, engine, workload, model=MODEL):
    """What the line alone says, with the same requests on the same machine."""
    line = report.derived["launch"]
    launch = parse(line)
    assert launch.unknown == ()
    assert (launch.engine, engine) == (engine, engine) or launch.engine in LLAMA_CPP
    beside = {n: v for n, v in workload.items() if n in BESIDE}
    if engine == "sglang":  # a line alone is asked whether it starts, and of no request
        beside |= {"batch_size": report.workload["batch_size"] or 1}
    if "max_new_tokens" in workload:  # what is read is not in the line
        beside |= {"prompt_len": report.workload["context"] - workload["max_new_tokens"]}
    if engine in LLAMA_CPP:  # the file is yet to be made
        assert launch.model in report.derived["launch_note"]
        line = line.replace(launch.model, MODEL)
        beside |= {"quantization": report.workload["quantization"], "engine": engine}
    if engine == "transformers" and "generate(" not in line:  # what is read is its inputs
        beside |= {"context": report.workload["context"]}
    found = prepared(parse(line).model).infer(command=line, remedies=False, **beside)
    assert not [w for w in found.warnings if "is no" in w]
    return found


def sizes(report):
    """Everything that was sized, and the line itself; where settings come from aside."""
    left = SOURCES if report.workload["engine"] not in LLAMA_CPP else (*SOURCES, *OF_LARGEST)
    told = {n: v for n, v in report.derived.items() if n not in left}
    return report.to_dict()["devices"], told


# With a command the largest are those of its flags
SOURCES = (
    "largest_context",
    "largest_batch_size",
    "searched_to",
    "dtype_from",
    "context_from",
    "command",
    "launch_note",
    "serves_by_default",
)
OF_LARGEST = ("kv_cache_tokens", "max_concurrency")  # of engines without a share


def check(engine, workload, model=MODEL):
    first = prepared(model).infer(engine=engine, remedies=False, **workload)
    if "launch" not in first.derived:
        assert first.derived["launch_note"].startswith("no line to paste: ")
        return False
    second = again(first, engine, workload, model)
    assert sizes(second) == sizes(first), first.derived["launch"]
    return True


WRITTEN = {  # formats that an engine makes while it loads, or that its own file has
    "transformers": {
        *("bnb-int8", "nf4", "nf4-dq", "fp4", "fp4-dq", "hqq-4bit-g64", "torchao-int8"),
        *("torchao-int4-g128", "torchao-fp8", "quanto-int8", "quanto-float8", "quanto-int4"),
        *("quanto-int2", "eetq", "fp8-block"),
        *("F16", "BF16"),  # GGUF's names of plain dtypes
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_format(engine):
    carried = set()
    for name in NAMES:
        try:
            if check(engine, {"quantization": name, "context": 2048}):
                carried.add(name)
        except UsageError:
            continue
    assert carried
    assert carried == WRITTEN.get(engine, carried)


@pytest.mark.parametrize(
    "form", ["nf4", "bnb-int8", "torchao-int4-g64", "hqq-2bit-g16", "fp8-block"]
)
def test_formats_of_transformers(form):
    assert check("transformers", {"quantization": form})
    line = weighbridge.infer(MODEL, quantization=form).derived["launch"]
    assert "quantization_config=" in line
    compile(line, "pasted", "exec")


@pytest.mark.parametrize("form", ["gptq-4bit-g128", "awq-4bit-g128", "mxfp4", "nvfp4"])
def test_formats_that_are_not_made_have_no_line(form, capsys):
    report = weighbridge.infer(MODEL, quantization=form)
    assert "launch" not in report.derived
    assert f"does not make {form}" in report.derived["launch_note"]
    run(["infer", MODEL, "--quantization", form])
    assert "no line to paste" in capsys.readouterr().out


# One value of each setting that is not its default; what an engine refuses is left out
VALUES = {
    "dtype": "float16",
    "context": 3072,
    "kv_cache_dtype": {"vllm": "fp8", "sglang": "fp8_e5m2", "transformers": "int4"},
    "max_new_tokens": 7,
    "base_model": True,
    "draft_model": MODEL,
    "speculative_method": "ngram",
    "num_speculative_tokens": 3,
    "mamba_ssm_cache_dtype": "float16",
    "cpu_offload_gb": 0.123456789,
    "attention_backend": "triton",
    "device_map": "auto",
    "attention": "math",
    "cache_implementation": "static",
    "num_beams": 3,
    "logits_to_keep": 0,
    "gpu_memory_utilization": 0.7654321,
    "mem_fraction_static": 0.7654321,
    "kv_cache_memory_bytes": 3_000_000_001,
    "swa_full_tokens_ratio": 0.3,
    "mamba_full_memory_ratio": 0.7,
    "max_mamba_cache_size": 40,
    "cuda_graph_max_bs": 24,
    "program": "cli",
    "flash_attn": "off",
    "cache_type_k": "q8_0",
    "cache_type_v": "q8_0",
    "split_mode": "none",
    "tensor_split": "1",
    "main_gpu": 0,
    "n_gpu_layers": 5,
    "max_lora_rank": 64,
    "chunked_prefill_size": -1,
    "mla_attn": 2,
    "parallel": 3,
}
WITH = {  # settings that mean nothing alone, or need more devices
    "max_lora_rank": {"max_loras": 2},
    "num_speculative_tokens": {"speculative_method": "ngram"},
    "decode_context_parallel_size": {"tensor_parallel_size": 4},
    "enable_dp_attention": {"tensor_parallel_size": 4, "data_parallel_size": 4},
    "enable_expert_parallel": {"tensor_parallel_size": 2},
}
NUMBERS = {"count": 4096, "whole": 16, "number": 0.5}
OTHERS = {"mmproj", "mmproj_auto", "exact"}  # files, and a class that is run


def value(setting, engine):
    found = VALUES.get(setting.name)
    if isinstance(found, dict):
        found = found.get(engine, "q8_0")
    if found is not None:
        return found
    if setting.choices:
        return setting.choices[-1]
    if not setting.kind.metavar:
        return True
    return 2 if "parallel" in setting.name else 16


def settings_of(engine):
    for name, setting in INFER.items():
        theirs = not engines_of(setting) or engine in engines_of(setting)
        if theirs and name not in BESIDE | OTHERS | {"quantization"}:
            yield name, {name: value(setting, engine), **WITH.get(name, {})}


@pytest.mark.parametrize("engine", some(5, ENGINES))
@pytest.mark.parametrize("gpu", some(2, [None, "a100-80gb"]))
def test_every_setting(engine, gpu):
    carried = 0
    for name, workload in settings_of(engine):
        several = "parallel" in name or "tensor_parallel_size" in workload
        many = {} if gpu is None else {"gpu": f"{gpu}:4" if several else gpu}
        try:
            carried += check(engine, workload | many)
        except UsageError:  # the engine has no such value
            continue
    assert carried >= 10


@pytest.mark.parametrize(
    "model", ["t5-small", "bert-base-uncased", "whisper-tiny", "clip-vit-base-patch16", "gpt2"]
)
def test_the_class_is_the_one_that_was_sized(model):
    """An Auto class loads BERT without its head, and no Mllama at all."""
    found = weighbridge.infer(model, context=64)
    assert f" {found.model.architecture}.from_pretrained(" in found.derived["launch"]
    assert check("transformers", {"context": 64}, model)


@pytest.mark.slow
def test_versions_have_their_own_words():
    model = "llama-3.2-1b"  # which that release knows
    assert check("transformers", {"engine_version": "4.50", "quantization": "nf4"}, model)
    line = weighbridge.infer(model, engine_version="4.50").derived["launch"]
    assert "torch_dtype=torch.float32" in line
    old = weighbridge.infer(model, engine_version="4.50", quantization="torchao-int8")
    assert "4.50 does not have TorchAoConfig" in old.derived["launch_note"]


# Where a model is


@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang"])
def test_a_folder_and_its_config_alone(engine, tmp_path):
    write_repo(tmp_path, packings.CONFIG, packings.plain())
    line = weighbridge.infer(tmp_path, engine=engine).derived["launch"]
    assert parse(line).model == str(tmp_path)
    alone = weighbridge.infer(tmp_path / "config.json", engine=engine).derived
    assert "launch" not in alone
    assert "give" in alone["launch_note"]
    at_hand = weighbridge.infer(packings.CONFIG, engine=engine).derived
    assert "launch" not in at_hand
    named = weighbridge.infer({**packings.CONFIG, "_name_or_path": "org/it"}, engine=engine)
    assert parse(named.derived["launch"]).model == "org/it"


@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang"])
def test_a_page_of_the_hub_is_its_repository(engine):
    page = "https://huggingface.co/Qwen/Qwen3-0.6B"
    line = weighbridge.infer(page, engine=engine, offline=True).derived["launch"]
    assert parse(line).model == "Qwen/Qwen3-0.6B"
    pinned = weighbridge.infer("Qwen/Qwen3-0.6B@main", engine=engine, offline=True)
    assert parse(pinned.derived["launch"]).revision == "main"


def test_words_that_a_shell_would_take_apart(tmp_path):
    at = tmp_path / "a model; rm -rf"
    write_repo(at, packings.CONFIG, packings.plain())
    for engine in ("transformers", "vllm", "sglang"):
        line = weighbridge.infer(at, engine=engine).derived["launch"]
        assert parse(line).model == str(at)
        if engine != "transformers":
            assert str(at) in shlex.split(line)


# The line stands alone


@pytest.mark.slow
def test_a_line_is_never_wrapped(monkeypatch, capsys):
    for width in ("20", "80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        run(["infer", MODEL, "--quantization", "nf4-dq", "--json"])
        line = json.loads(capsys.readouterr().out)["derived"]["launch"]
        for form in ("human", "markdown"):
            run(["infer", MODEL, "--quantization", "nf4-dq", "--format", form])
            assert line in capsys.readouterr().out.splitlines()


# Lines of others


def test_a_line_of_python_that_someone_wrote():
    found = parse(
        "from transformers import *\n"
        "cfg = 1\n"
        "m = transformers.AutoModelForCausalLM.from_pretrained('org/name', torch_dtype='auto',"
        " device_map={'': 0}, quantization_config=BitsAndBytesConfig(load_in_4bit=True),"
        " attn_implementation='flash_attention_2', trust_remote_code=True, frob=3)\n"
    )
    assert (found.engine, found.model) == ("transformers", "org/name")
    assert found.settings == {"quantization": "fp4", "attention": "flash"}
    assert len(found.warnings) == 2
    assert "device_map" in found.warnings[0]
    assert "'frob' is no keyword" in found.warnings[1]


@pytest.mark.parametrize(("word", "form"), [("load_in_4bit", "fp4"), ("load_in_8bit", "bnb-int8")])
def test_a_switch_beside_the_name_packs_as_its_config_does(word, form):
    """Transformers took it so before release 5."""
    assert parse(f"A.from_pretrained('org/name', {word}=True)").settings == {"quantization": form}
    assert parse(f"A.from_pretrained('org/name', {word}=False)").settings == {}


@pytest.mark.slow
def test_a_line_of_python_that_names_no_length_is_of_the_usual_one():
    line = "AutoModelForCausalLM.from_pretrained('meta-llama/Llama-3.1-8B')"
    assert weighbridge.infer(command=line).workload["context"] == 4096


@all_of(
    ("line", "words"),
    [
        ("AutoModel.from_pretrained(", "not Python"),
        ("AutoModel.from_pretrained()", "give one, with its name"),
        ("A.from_pretrained('a'); B.from_pretrained('b')", "loads 2 models"),
        ("A.from_pretrained(name)", "not written in the line"),
        ("A.from_pretrained('a', x=" + "(" * 300 + ")" * 300 + ")", "Python|number"),
        ("A.from_pretrained('" + "a" * 70_000 + "')", "limit"),
    ],
)
def test_lines_that_are_none(line, words):
    with pytest.raises(UsageError, match=words):
        parse(line)


def test_a_gguf_of_a_folder(tmp_path):
    """A header and no layers is enough for the line."""
    from weighbridge.engines import launch_line
    from weighbridge.models.sources.reference import HubRef, LocalRef, UrlRef

    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    assert launch_line.of_path(LocalRef(path="/m/x.gguf")) == launch_line.LoadTarget(
        "/m", file="x.gguf"
    )
    assert launch_line.of_path(LocalRef(path="/m/x.safetensors")).why
    assert launch_line.of_repository(HubRef(repo_id="o/n", filename="x.gguf")).file == "x.gguf"
    assert launch_line.of_repository(HubRef(repo_id="o/n", quant="Q4_K_M")).quant == "Q4_K_M"
    assert launch_line.of_repository(HubRef(repo_id="o/n", subfolder="unet")).why
    assert launch_line.of_url(UrlRef(url="https://h/x.bin", filename="x.bin"))
