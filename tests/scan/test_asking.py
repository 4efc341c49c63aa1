"""Questions of a scan: what a file of them says, and what is refused before anything is asked."""

import pytest

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.faces.scan import asking


def read(text, cards=()):
    return asking.read(f"questions: [{text}]".encode(), "q.yaml", cards)


def test_lists_are_multiplied_out():
    found = read(
        "{name: v, task: infer, workload: {engine: vLLM, context: [8192, 32768], gpu: [4090, h100]}}"
    )
    assert [q.name for q in found] == ["v/8192/4090", "v/8192/h100", "v/32768/4090", "v/32768/h100"]
    assert {q.family for q in found} == {"vllm"}
    assert [q.label for q in found] == ["v/8192", "v/8192", "v/32768", "v/32768"]
    assert found[0].settings == {"engine": "vllm", "context": 8192, "gpu": "4090"}


def test_cards_are_for_questions_that_name_none():
    found = read("{name: a, task: load}, {name: b, task: load, workload: {gpu: h100}}", ["4090"])
    assert [(q.name, q.settings["gpu"]) for q in found] == [("a/4090", "4090"), ("b", "h100")]


def test_who_names_no_engine_is_answered_by_the_usual_one():
    assert [q.family for q in read("{name: a, task: infer}, {name: b, task: train}")] == [
        "transformers",
        "train",
    ]


def test_the_default_questions():
    assert [q.name for q in asking.default(["4090"])] == [
        "load/4090",
        "vllm/8192/4090",
        "vllm/32768/4090",
        "llama.cpp/4090",
        "lora/4090",
        "qlora/4090",
        "full/4090",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{name: a, task: fit}", "question 1: task is one of load, infer, train"),
        ("{task: load}", "no name"),
        ("{name: a, task: load, model: gpt2}", "has name, task and workload"),
        ("{name: a, task: load, workload: [1]}", "workload is an object"),
        ("{name: a, task: infer, workload: {contxt: 8}}", "question 1: .*context"),
        ("{name: a, task: infer, workload: {engine: vlm}}", "vllm"),
        ("{name: a, task: infer, workload: {command: vllm serve x}}", "command names a model"),
        ("{name: a, task: infer, workload: {draft_model: gpt2}}", "draft_model names a model"),
        ("{name: a, task: train, workload: {exact: true}}", "runs what is installed"),
        ("{name: a, task: load, workload: {gpu: [local]}}", "another card on each machine"),
        ("{name: a, task: load, workload: {gpu: 'local:2'}}", "another card on each machine"),
        ("{name: a, task: load}, {name: a, task: train}", "'a' stands for two"),
        ("{name: model, task: load}", "'model' stands for two"),
        ("{name: a, task: load, workload: {gpu: [no-such-card]}}", "no-such-card"),
        ("", "no list of questions"),
    ],
)
def test_what_is_no_question_is_told(text, why):
    with pytest.raises(UsageError, match=why):
        read(text)


def test_a_file_without_end_is_refused():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(BadFileError, match="too large"):
        asking.read(bomb.encode(), "q.yaml")
    many = ",".join(map(str, range(40)))
    with pytest.raises(UsageError, match="1,600 questions"):
        read(
            f"{{name: a, task: infer, workload: {{context: [{many}], batch_size: [{many}]}}}}".replace(
                "[0,", "[40,"
            )
        )
