"""Errors in the words of a page."""

import json
import re
import sys

import pytest

from tests.cases import all_of
from weighbridge.base.errors import HubError
from weighbridge.base.sentences import clauses, sentence
from weighbridge.faces.web.protocol import AskDesk, mistake
from weighbridge.models import catalogue


@pytest.fixture(scope="module")
def desk():
    return AskDesk(offline=True)


def error(desk, lang="en", **ask):
    return desk.answer(json.dumps({"view": {"lang": lang}, **ask}))["error"]


@pytest.fixture
def no_card(monkeypatch):
    from weighbridge.base.errors import UsageError
    from weighbridge.machines.accelerators import budget

    def none(*_):
        raise UsageError("no card here")

    monkeypatch.setattr(budget, "budget", none)


@pytest.mark.parametrize(("lang", "words"), [("en", "Now name a card"), ("zh", "现在写出一张卡")])
def test_a_card_that_is_still_to_be_named_is_asked_for(desk, no_card, lang, words):
    found = error(desk, lang, task="fit", model="gpt2")
    assert found["message"].startswith(words)
    assert found["wants"] == "gpu"
    assert "--" not in found["message"]


@pytest.mark.parametrize(
    ("task", "workload", "setting", "label"),
    [
        ("infer", {"context": "abc"}, "context", "Context"),
        ("load", {"gpu": "zzz9"}, "gpu", "no accelerator 'zzz9'"),
        ("fit", {"gpu": "rtx"}, "gpu", "no accelerator 'rtx'"),
        ("train", {"batch_size": "many"}, "batch_size", "Batch"),
    ],
)
def test_a_setting_is_told_by_its_label(desk, task, workload, setting, label):
    found = error(desk, task=task, model="gpt2", workload=workload)
    assert found["setting"] == setting
    assert found["message"].startswith(label)
    assert not re.search(r"--[a-z]|`weighbridge", found["message"])


def test_options_of_a_pasted_command_stay_its_own(desk):
    command = "vllm serve gpt2 --max-model-len abc"
    found = error(desk, task="infer", workload={"command": command})
    assert "--max-model-len" in found["message"]


def test_a_model_that_needs_a_library_sends_nobody_to_a_terminal(desk):
    found = error(desk, task="load", model={"config": {"model_type": "never-heard-of"}})
    assert "pip install" not in found["message"]
    assert "never-heard-of" in found["message"]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (
            {"model": "gpt2", "workload": {"gpu": "zzz9"}},
            "没有 'zzz9' 这种加速卡，也没有相近的名字；「显卡」页",
        ),
        (
            {"model": "gpt2", "workload": {"gpu": "rtx"}},
            "没有 'rtx' 这种加速卡；最接近的是 GeForce",
        ),
        ({"model": "qwem3-8b"}, "qwem3-8b：内置目录中没有这个名字；是不是 qwen3-8b"),
        ({"model": "gpt2", "workload": {"quantization": "q9"}}, "'q9' 不是权重格式；常用的有"),
        ({"model": {"config": {"model_type": "new"}}}, "我们的表里没有 model type 'new'；装了"),
        ({"task": "infer", "model": "gpt2", "workload": {"context": "x"}}, "上下文(token)应为数字"),
        (
            {"task": "infer", "model": "gpt2", "workload": {"context": "4096"}},
            "4,096 个 token：GPT2",
        ),
        (
            {"task": "infer", "model": "t5-base", "workload": {"engine": "vllm"}},
            "t5-base：vllm 0.33 没有 T5",
        ),
        ({"task": "oom", "log": "hello"}, "没有找到认识的显存不足信息"),
        ({"task": "models", "workload": {"pattern": "zzzz"}}, "目录中没有与 'zzzz' 匹配的模型"),
        (
            {"task": "models", "workload": {"pattern": "e", "gpu": "t4"}},
            f"有 {len(catalogue.search('e'))} 个模型匹配：请用关键词",
        ),
        ({"task": "models", "workload": {"min_context": "8K"}}, "请写出要为哪张卡给模型排序"),
        ({"task": "gpus", "workload": {"pattern": "zzz"}}, "没有与 'zzz' 匹配的加速卡"),
        ({"task": "gpus", "workload": {"fp4": True, "vendor": "apple"}}, "已知的加速卡都不满足"),
    ],
)
def test_what_is_wrong_is_told_in_chinese(desk, monkeypatch, ask, says):
    monkeypatch.setitem(sys.modules, "torch", None)  # a page that runs beside no torch
    told = error(desk, "zh", **{"task": "load", **ask})["message"]
    assert told.startswith(says)
    assert not re.search(r"--[a-z]|`weighbridge", told)


@all_of(
    ("said", "told"),
    [
        (
            clauses(
                sentence("gated", repo="org/m", place="https://hf.co/org/m"),
                sentence("then_login", login="give a token of yours"),
            ),
            "org/m 需要授权：请在 https://hf.co/org/m 接受许可；然后给出自己的 token",
        ),
        (
            clauses(
                sentence("no_repository_spelling", name="org/m", place="https://hf.co"),
                sentence("if_private", login="log in"),
            ),
            "https://hf.co 没有模型 'org/m'：请检查拼写；如果是私有模型，请给出自己的 token",
        ),
        (
            sentence("no_repository_spelling", name="org/m", place="https://hf.co"),
            "https://hf.co 没有模型 'org/m'：请检查拼写",
        ),
        (
            clauses(
                sentence("no_revision", repo="org/m", revision="v2"),
                sentence("it_has", names="main, v1"),
            ),
            "org/m 没有版本 'v2'；有 main, v1",
        ),
        (
            sentence("answer", page="https://hf.co/org/m", status=500),
            "https://hf.co/org/m：服务器的回答是 500",
        ),
        (sentence("dropped_alone", name="a.gguf", path="'b'"), "只拖入了 a.gguf，没有 'b'"),
    ],
)
def test_what_the_hub_says_is_told_in_chinese(said, told):
    assert mistake(HubError(said), {"view": {"lang": "zh"}})["error"]["message"] == told
    assert mistake(HubError(said), {"view": {"lang": "en"}})["error"]["message"] == said
