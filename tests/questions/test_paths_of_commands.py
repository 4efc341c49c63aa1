"""Commands that serve a path of another machine: what it is called says which model it is."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers.questions.question import by_its_name, serving
from weighbridge.base.errors import NotFoundError, UsageError

AWQ, BASE = "awq-4bit-g128", "qwen3-8b"


def asked(line, model=None, **where):
    meant = by_its_name(serving(None, line, {}), model, **where)
    return meant.launched.model, meant.workload.quantization, meant.launched.stored_as


@all_of(
    ("line", "model", "form"),
    [
        ("vllm serve /models/qwen3-8b", "qwen3-8b", None),
        ("vllm serve /models/Qwen/Qwen3-8B --quantization fp8", "Qwen/Qwen3-8B", "fp8-tensor"),
        ("vllm serve /x/models--Qwen--Qwen3-8B/snapshots/abc", "Qwen/Qwen3-8B", None),
        ("vllm serve /models/qwen3-8b-awq-int4 --quantization awq", "qwen3-8b-awq-int4", AWQ),
        ("vllm serve /models/qwen3-8b --quantization awq", "qwen3-8b", AWQ),
        ("vllm serve Qwen3-8B-AWQ --quantization awq", "Qwen3-8B-AWQ", AWQ),
        ("llama-server -m models/Qwen3-8B-Q8_0_MTP.gguf", "Qwen3-8B-Q8_0_MTP.gguf", "Q8_0"),
    ],
)
def test_a_path_that_is_not_here_is_what_it_is_called(line, model, form):
    assert asked(line) == (model, form, "")


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "qwen3-8b", "/models/qwen3-8b-bf16"])
def test_a_flag_that_the_name_contradicts_is_judged(name):
    assert asked(f"vllm serve {name} --quantization awq")[1:] == ("awq", "--quantization awq")


def test_a_model_beside_the_command_says_what_its_path_is():
    report = weighbridge.infer(BASE, command="vllm serve /model --max-model-len 2048")
    assert (report.model.name, report.workload["context"]) == (BASE, 2048)
    packed = weighbridge.infer(BASE, command="vllm serve /data/qwen3-8b-awq")
    assert packed.workload["quantization"] == AWQ
    assert weighbridge.prepare(BASE).infer(command="vllm serve /model").model.name == BASE


def test_an_answer_says_that_the_path_is_not_here():
    report = weighbridge.infer(command="vllm serve /models/qwen3-8b")
    assert "'/models/qwen3-8b' is not here" in report.warnings[0]
    with pytest.raises(UsageError, match="'/model' is not here, and names no model: name MODEL"):
        weighbridge.infer(command="vllm serve /model")


def test_a_folder_that_is_here_is_read(tmp_path):
    folder = tmp_path / "qwen3-8b"
    folder.mkdir()
    line = f"vllm serve {folder}"
    with pytest.raises(NotFoundError, match="holds neither"):
        weighbridge.infer(command=line)
    with pytest.raises(UsageError, match="name one model"):
        weighbridge.infer("gpt2", command=line)
    assert asked(line, disk=False)[0] == "qwen3-8b"  # where strangers ask
