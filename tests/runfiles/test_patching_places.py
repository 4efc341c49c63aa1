"""Where `--fix` writes flags that a file says as parameters, as keys or within brackets."""

import pytest

from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.flags import flagged
from weighbridge.files.runfiles.kinds import named
from weighbridge.files.runfiles.patching import _changed, applied
from weighbridge.files.runfiles.weighing import WeighedRun
from weighbridge.memory.report.verdict import Remedy

MODELFILE = 'FROM llama3.1:8b\nPARAMETER num_ctx 32768\nPARAMETER num_gpu 81\nSYSTEM """x"""\n'
KEYS = "model: org/name\ntensor-parallel-size: 2  # both\nmax-model-len: 32768\n"
FLOW = """\
services:
  a:
    image: vllm/vllm-openai:v0.9.1
    command: ["--model", "org/name", "--max-model-len", "32768"]
    ports: ["8000:8000"]
"""
MEGATRON = """\
ARGS="
 --num-layers 4 --hidden-size 64 --num-attention-heads 4 --seq-length 8192
 --max-position-embeddings 8192 --micro-batch-size 4 --global-batch-size 8 --bf16"
torchrun --nproc_per_node 1 pretrain_gpt.py $ARGS --vocab-size 1024 --tokenizer-type NullTokenizer
"""


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"n_gpu_layers": 36}, "PARAMETER num_gpu 36\n"),
        ({"context": 4096}, "PARAMETER num_ctx 4096\n"),
    ],
)
def test_parameters_of_a_modelfile_are_changed_where_they_stand(change, line):
    kind = named("modelfile")
    file = read(MODELFILE, "Modelfile")
    (document,) = (kind.placed(each) for each in _documents(MODELFILE))
    after = applied(document, file.runs[0], kind.written(change))
    assert line in after
    assert len(after.splitlines()) == 4
    assert read(after, "Modelfile").runs[0].settings.items() >= change.items()


def test_a_new_parameter_stands_behind_the_others():
    kind = named("modelfile")
    text = "FROM llama3.1:8b\nPARAMETER num_ctx 32768\n"
    file = read(text, "Modelfile")
    (document,) = (kind.placed(each) for each in _documents(text))
    after = applied(document, file.runs[0], kind.written({"n_gpu_layers": 9}))
    assert after == f"{text}PARAMETER num_gpu 9\n"


def _documents(text):
    from weighbridge.files.runfiles.document import documents

    return documents(text, "modelfile", "Modelfile")


@pytest.mark.parametrize(
    ("text", "flags", "line"),
    [
        (KEYS, "--quantization fp8", "model: org/name\nquantization: fp8\n"),
        (KEYS, "--max-model-len 4096", "\nmax-model-len: 4096\n"),
        (KEYS, "--tensor-parallel-size 4", "tensor-parallel-size: 4  # both\n"),
        (KEYS, "--enforce-eager", "\nenforce-eager: true\n"),
        (FLOW, "--quantization fp8", '"32768", "--quantization", "fp8"]\n    ports: ["8000:8000"]'),
        (FLOW, "--max-model-len 4096", '"--max-model-len", "4096"]'),
        (FLOW, "--enforce-eager", '"32768", "--enforce-eager"]'),
    ],
)
def test_flags_are_changed_as_keys_and_within_brackets(text, flags, line):
    file = read(text, "a.yaml")
    after = next(flagged(text, file.runs[0], flags))
    assert line in after
    again = read(after, "a.yaml").runs[0]
    assert again.command != file.runs[0].command


def test_arguments_of_megatron_are_changed_and_the_global_batch_stays():
    file = read(MEGATRON, "mega.sh")
    run = file.runs[0]
    for change, word in (
        ({"seq_len": 4096}, "--seq-length 4096"),
        ({"batch_size": 2, "gradient_accumulation": 4}, "--micro-batch-size 2"),
    ):
        remedy = Remedy(change=change, flags="", cost="", fits="yes", peak_bytes=1)
        text, _ = _changed(MEGATRON, file, 0, _weighed(run, remedy))
        assert word in text


class _Report:
    def __init__(self, remedy):
        self.remedies = (remedy,)


def _weighed(run, remedy):
    return WeighedRun(run=run, report=_Report(remedy))


CELL = (
    "args = SFTConfig(per_device_train_batch_size = 4, gradient_accumulation_steps = 1)\\n",
    "trainer = SFTTrainer(model=m, args=args)\\n",
    "trainer.train()\\n",
)
LOADED = 'm = AutoModelForCausalLM.from_pretrained(\\"a/b\\")  # 模型'


def book(*cells):
    """A notebook as JSON, a cell of one text each."""
    told = ", ".join(f'{{"cell_type": "code", "source": "{cell}"}}' for cell in cells)
    return f'{{"cells": [{told}], "nbformat": 4}}'


@pytest.mark.parametrize("magic", ["!pip install trl\\n", ""])
def test_arguments_in_a_cell_are_changed_within_the_json(magic):
    text = book(magic + LOADED, "".join(CELL))
    file = read(text, "a.ipynb")
    change = {"batch_size": 1, "gradient_accumulation": 4}
    remedy = Remedy(change=change, flags="", cost="", fits="yes", peak_bytes=1)
    after, _ = _changed(text, file, 0, _weighed(file.runs[0], remedy))
    assert after == text.replace("size = 4", "size = 1").replace("steps = 1", "steps = 4")


def test_a_line_that_stands_twice_is_not_changed():
    text = book(LOADED, "".join(CELL), f"if 0:\\n    pass\\n{CELL[0]}")
    file = read(text, "a.ipynb")
    remedy = Remedy(change={"batch_size": 1}, flags="", cost="", fits="yes", peak_bytes=1)
    assert _changed(text, file, 0, _weighed(file.runs[0], remedy)) is None


JOINED = """\
services:
  first:
    image: vllm/vllm-openai:v0.10.2
    command:
      - --model=org/other
      - --max-model-len=8192
  second:
    image: vllm/vllm-openai:v0.10.2
    command:
      - --model=org/name  # ours
      - "--max-model-len=32768"
    ports:
      - 8000:8000
"""
APART = """\
services:
  a:
    image: vllm/vllm-openai:v0.10.2
    command:
      - --max-model-len
      - "32768"  # long
      - --model
      - org/name"""
SCRIPT = """\
MODEL="org/name"
LEN=32768
ARGS="--max-model-len $LEN -tp 2"
python -m vllm.entrypoints.openai.api_server \\
  --model "$MODEL" $ARGS --gpu-memory-utilization 0.9 "$@"
"""
VALUES = """\
servingEngineSpec:
  modelSpec:
  - name: other
    modelURL: org/other
    vllmConfig: {maxModelLen: 1024}
  - name: ours
    modelURL: org/name
    vllmConfig:
      maxModelLen: 131072  # all
      extraArgs: ["--kv-cache-dtype", "fp8"]
"""
IN_LINES = VALUES.replace(
    '["--kv-cache-dtype", "fp8"]', '\n      - "--kv-cache-dtype"\n      - fp8'
)


@pytest.mark.parametrize(
    ("text", "flags", "line"),
    [
        (JOINED, "--quantization fp8", "org/name  # ours\n      - --quantization=fp8\n"),
        (JOINED, "--max-model-len 4096", '\n      - "--max-model-len=4096"\n    ports'),
        (JOINED, "--enforce-eager", "# ours\n      - --enforce-eager\n"),
        (APART, "--quantization fp8", "- org/name\n      - --quantization\n      - fp8\n"),
        (APART, "--max-model-len 4096", '- "4096"  # long\n'),
        (SCRIPT, "--quantization fp8", "api_server --quantization fp8 \\\n  --model"),
        (SCRIPT, "--max-model-len 4096", 'ARGS="--max-model-len 4096 -tp 2"\n'),
        (SCRIPT, "--enforce-eager", "api_server --enforce-eager \\\n"),
        (VALUES, "--max-model-len 4096", "maxModelLen: 4096  # all\n"),
        (VALUES, "--max-num-seqs 8", "vllmConfig:\n      maxNumSeqs: 8\n      maxModelLen"),
        (VALUES, "--kv-cache-dtype auto", '["--kv-cache-dtype", "auto"]\n'),
        (VALUES, "--quantization fp8", '"fp8", "--quantization", "fp8"]\n'),
        (IN_LINES, "--quantization fp8", '- --quantization\n      - fp8\n      - "--kv-cache'),
        (VALUES.partition("      extra")[0], "--enforce-eager", 'extraArgs: ["--enforce-eager"]\n'),
    ],
)
def test_flags_are_written_in_lists_scripts_and_charts(text, flags, line):
    from weighbridge.files.runfiles.flags import asks_for

    name = "run.sh" if text is SCRIPT else "a.yaml"
    run = read(text, name).runs[-1]
    (remedy,) = [Remedy(change={}, peak_bytes=1, fits="yes", cost="", flags=flags)]
    ways = [
        after
        for after in flagged(text, run, flags)
        if asks_for(read(after, name).runs[-1].command, run.command, remedy)
    ]
    assert line in ways[0]
    assert (
        read(ways[0], name).runs[0].command == read(text, name).runs[0].command
        or len(read(text, name).runs) < 2
    )


def test_values_without_settings_in_lines_of_their_own_have_no_place():
    from weighbridge.files.runfiles.serving.charts import changed

    flow = VALUES.replace("org/name", "org/third").replace("org/other", "org/name")
    run = read(VALUES, "a.yaml").runs[-1]
    assert changed(flow, run, [("--quantization", "fp8")]) == ""
    lines = changed(IN_LINES, run, [("--quantization", "fp8")])
    assert lines.endswith('      - fp8\n      - "--quantization"\n      - "fp8"\n')
    assert changed("a: 1\n", run, [("--quantization", "fp8")]) == ""
