"""What is typed beside a run file of a server, in the file that is written of it."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.flags import asking, settings_of

FILE = """\
services:
  vllm:
    image: vllm/vllm-openai:v0.10.2
    command: --model Qwen/Qwen3-8B -tp 2 --max-model-len 32768
"""
LINE = "vllm serve Qwen/Qwen3-8B -tp 2 --max-model-len 32768"


@all_of(
    ("typed", "asks"),
    [
        ({"context": 4096}, {"context": 4096}),
        ({"tensor_parallel_size": 4}, {"tensor_parallel_size": 4}),
        ({"kv_cache_dtype": "fp8"}, {"kv_cache_dtype": "fp8"}),
        ({"enforce_eager": True}, {"enforce_eager": True}),
        ({"quantization": "fp8"}, {"quantization": "fp8-tensor"}),
        ({"quantization": "nf4"}, {"quantization": "nf4"}),
        ({"quantization": "awq-4bit-g128"}, {}),  # vLLM makes none: a repository is stored so
        ({"lora_r": 8}, {}),
    ],
)
def test_what_is_typed_is_told_by_the_flags_of_the_engine(typed, asks):
    line = asking(LINE, "Qwen/Qwen3-8B", typed, "vllm")
    assert settings_of(line) == {**settings_of(LINE), **asks}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compose", "vllm", "k8s"])
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"quantization": "fp8", "kv_cache_dtype": "fp8"}, ["quantization", "kv-cache-dtype"]),
        ({"quantization": "awq-4bit-g128"}, ["Qwen/Qwen3-8B-AWQ"]),
    ],
)
def test_a_file_is_written_with_what_is_typed_beside_it(kind, typed, said):
    made = weighbridge.emit(None, kind, file=FILE, name="compose.yaml", **typed)
    assert all(word in made.text for word in said)
    (again,) = read(made.text, "run.yaml").runs
    assert settings_of(again.command)["context"] == 32768
    meant = weighbridge.weigh(FILE, name="compose.yaml", **typed).runs[0].report
    assert meant.peak == made.report.peak
