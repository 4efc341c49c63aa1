"""Reports of many kinds, and a way to run a command in this process."""

import json
from functools import cache

import pytest

import weighbridge
from tests import packings
from tests.formats.build_gguf import Writer
from tests.packings import CONFIG
from tests.sparse import write_repo
from weighbridge.faces.cli.menu import run
from weighbridge.models.sources import http

# Reports of many kinds
LISTED = "llama-3.1-8b"


PIPELINE = {
    "_class_name": "TinyPipeline",
    "unet": ["diffusers", "TinyUNet"],
    "text_encoder": ["transformers", "LlamaForCausalLM"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
}


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "org/plain", "r": 8, "lora_alpha": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder of each kind, which is also the root of the stand-in Hub."""
    root = tmp_path_factory.mktemp("models")
    write_repo(root / "org/plain", CONFIG, packings.plain(), shards=3)
    for name in ("gptq 4-bit", "bnb nf4", "fp8 per block"):
        write_repo(
            root / "org" / name.replace(" ", "-"), packings.config(name), packings.PACKINGS[name][1]
        )
    write_repo(root / "org/gpt-oss", packings.GPT_OSS, packings.gpt_oss())
    write_repo(
        root / "org/unknown", {"model_type": "never_heard_of"}, {"a.weight": ("F16", (8, 8))}
    )
    write_repo(
        root / "org/adapter", {}, {"base_model.model.q_proj.lora_A.weight": ("F32", (8, 256))}
    )
    (root / "org/adapter/config.json").rename(root / "org/adapter/adapter_config.json")
    (root / "org/adapter/adapter_config.json").write_text(json.dumps(ADAPTER))
    pipeline(root / "org/pipeline")
    sentence_transformer(root / "org/sentences")
    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    w.tensor("token_embd.weight", [256, 512], "Q4_K").tensor("output_norm.weight", [256])
    (root / "tiny.gguf").write_bytes(w.file())
    return root


def pipeline(root):
    write_repo(
        root / "unet", {"_class_name": "TinyUNet"}, {"conv_in.weight": ("F16", (4, 4, 3, 3))}
    )
    write_repo(root / "text_encoder", CONFIG, packings.plain())
    (root / "model_index.json").write_text(json.dumps(PIPELINE))


def sentence_transformer(root):
    write_repo(root, CONFIG, packings.plain())
    write_repo(
        root / "2_Dense",
        {"in_features": 256, "out_features": 64},
        {"linear.weight": ("F32", (64, 256))},
    )
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (root / "modules.json").write_text(json.dumps(modules))


KINDS = {
    "a config": lambda root: weighbridge.load(CONFIG),
    "the catalogue": lambda root: weighbridge.load(LISTED),
    "a mixture": lambda root: weighbridge.load("mixtral-8x7b", quantization="nf4"),
    "a vision model": lambda root: weighbridge.load("qwen2.5-vl-7b", dtype="int4"),
    "an old engine": lambda root: weighbridge.load(
        "gpt2", engine_version="4.40", device_map="auto"
    ),
    "headers": lambda root: weighbridge.load(root / "org/plain"),
    "a headless class": lambda root: weighbridge.load(root / "org/plain", base_model=True),
    "gptq": lambda root: weighbridge.load(root / "org/gptq-4-bit"),
    "bitsandbytes": lambda root: weighbridge.load(root / "org/bnb-nf4"),
    "fp8": lambda root: weighbridge.load(root / "org/fp8-per-block"),
    "mxfp4": lambda root: weighbridge.load(root / "org/gpt-oss"),
    "an unknown class": lambda root: weighbridge.load(root / "org/unknown"),
    "an adapter": lambda root: weighbridge.load(root / "org/adapter"),
    "a pipeline": lambda root: weighbridge.load(root / "org/pipeline"),
    "a sentence transformer": lambda root: weighbridge.load(root / "org/sentences"),
    "a file": lambda root: weighbridge.load(root / "org/plain/model-00001-of-00003.safetensors"),
    "gguf": lambda root: weighbridge.load(root / "tiny.gguf"),
    "a bare size": lambda root: weighbridge.load("7B"),
}


@cache
def made(kind, root):
    return KINDS[kind](root)


@pytest.fixture(params=KINDS)
def report(request, folder):
    return made(request.param, folder).to_dict()


# The report: every key of the contract, and its type
OR_NULL = type(None)


BYTES = {"low": int, "expected": int, "high": int}


COMPONENT = {
    "name": str,
    "detail": str,
    "level": str,
    "bytes": BYTES,
    "basis": str,
    "formula": str,
    "source": str,
}


DEVICE = {
    "index": int,
    "kind": str,
    "peak_phase": str,
    "peak": {"allocated": BYTES, "reserved": BYTES, "driver": BYTES},
    "taken": OR_NULL,
    "phases": [{"name": str, "bytes": BYTES, "components": [COMPONENT]}],
}


ROW = {
    "dtype": str,
    "largest_layer": str,
    "largest_layer_bytes": int,
    "total_bytes": int,
    "training_adam_bytes": (int, OR_NULL),
    "training_adam_pure_bytes": (int, OR_NULL),
}


REPORT = {
    "schema": str,
    "version": str,
    "task": str,
    "model": {
        "reference": str,
        "revision": (str, OR_NULL),
        "name": str,
        "architecture": str,
        "parameters": int,
        "active_parameters": int,
        "stored_bytes": (int, OR_NULL),
        "download_bytes": (int, OR_NULL),
        "read_from": [str],
    },
    "workload": dict,
    "devices": [DEVICE],
    "derived": dict,
    "table": [ROW],
    "verdict": OR_NULL,  # of `load` without an accelerator
    "remedies": [dict],
    "warnings": [str],
}


def check(value, shape, where="report"):
    """`value` has the keys and the types of `shape`; more keys may be there."""
    if isinstance(shape, dict):
        assert type(value) is dict, where
        for key, inner in shape.items():
            assert key in value, f"{where}.{key}"
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(shape, list):
        assert type(value) is list, where
        for index, item in enumerate(value):
            check(item, shape[0], f"{where}[{index}]")
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        assert type(value) in kinds, f"{where} is {value!r}"


# The command line, in this process
@pytest.fixture
def say(capsys, tmp_path, monkeypatch):
    """`say(arguments)` -> (code, stdout, stderr) of one command, far from any Hub."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(http, "BACKOFF", 0.01)
    monkeypatch.delenv("WEIGHBRIDGE_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        return (code, *capsys.readouterr())

    return call


def complains(answer, code, *words):
    """Nothing on stdout, one line on stderr."""
    assert answer[:2] == (code, ""), answer
    assert answer[2].startswith("error: ")
    assert answer[2].count("\n") == 1
    assert "defect" not in answer[2]
    assert "Traceback" not in answer[2]
    for word in words:
        assert word in answer[2]
