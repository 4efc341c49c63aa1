"""`fit`: one answer for five questions, the same from all doors."""

import json
import re
import subprocess
import sys

import pytest

import weighbridge
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import ReleaseError, UsageError
from weighbridge.faces.cli.menu import run

GPU = "4090"
NAMES = ["load", "infer", "lora", "qlora", "train"]


@pytest.fixture(scope="module")
def model():
    return weighbridge.prepare("qwen3-0.6b")


@pytest.mark.slow
def test_each_question_is_the_one_that_its_own_command_answers(model):
    found = model.fit(gpu=GPU, context="8K", batch_size=2)
    assert [q.name for q in found.questions] == NAMES
    for q in found.questions:
        asked = {"gpu": GPU}
        if q.task == "infer":
            asked |= {"context": 8192, "batch_size": 2}
        if q.task == "train":
            asked |= {"method": q.method}  # users are no batch of training
        alone = getattr(model, q.task)(**asked)
        assert q.report.devices == alone.devices, q.name
        assert q.report.verdict == alone.verdict


@pytest.mark.slow
def test_the_json_is_that_of_the_contract(model):
    found = model.fit(gpu="4090:2").to_dict()
    assert found["schema"] == "weighbridge.fit/1"
    assert found["solved"] is None
    (accelerator,) = found["accelerators"]
    assert accelerator["count"] == 2
    usable = accelerator["usable_bytes"]
    assert 0 < usable["free"] <= usable["total"]
    assert [(q["task"], q["method"]) for q in found["questions"]] == [
        ("load", None),
        ("infer", None),
        ("train", "lora"),
        ("train", "qlora"),
        ("train", "full"),
    ]
    for q in found["questions"]:
        assert q["verdict"] == q["report"]["verdict"]
        assert q["report"]["schema"] == "weighbridge.report/1"
        assert q["remedies"] == q["report"]["remedies"]
        assert q["verdict"]["fits"] in ("yes", "no", "unknown")
    json.dumps(found)


@pytest.mark.slow
def test_all_doors_give_the_same_answer(capsys):
    asked = {"gpu": GPU, "context": 2048, "for": "qlora"}
    line = json.dumps({"task": "fit", "model": "qwen3-0.6b", "workload": asked})
    requested = Requests().answer(line)
    code = run(["fit", "qwen3-0.6b", "--gpu", GPU, "--context", "2048", "--for", "qlora", "--json"])
    typed = json.loads(capsys.readouterr().out)
    by_name = weighbridge.fit("qwen3-0.6b", gpu=GPU, context=2048, for_="qlora").to_dict()
    assert code == 0
    assert requested["for"] == typed["for"] == "qlora"
    assert requested["questions"] == typed["questions"] == by_name["questions"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpu", "about", "code"),
    [("4090", "infer", 0), ("3060", "load", 1), ("4090", "train", 1), ("4090", "load", 0)],
)
def test_the_exit_code_is_about_the_question_that_was_named(capsys, gpu, about, code):
    assert run(["fit", "llama-3.1-8b", "--gpu", gpu, "--for", about]) == code


@pytest.mark.slow
def test_the_exit_code_is_that_of_the_first_line_and_as_published_asks_strictly(capsys):
    asked = ["fit", "llama-3.1-8b", "--gpu", "3060"]
    assert run(asked) == 0
    assert "✓ Yes, at 8 bit (Q8_0)" in capsys.readouterr().out
    assert run([*asked, "--as-published"]) == 1
    assert "✗ No: as published (bfloat16)" in capsys.readouterr().out


@pytest.mark.slow
def test_fit_checks_without_being_told_to(capsys):
    assert (
        run(["fit", "qwen3-0.6b", "--gpu", "t4", "--for", "qlora", "--check", "--seq-len", "256"])
        == 0
    )
    assert run(["fit", "llama-3.1-8b", "--gpu", "t4", "--for", "load", "--check"]) == 1


def test_what_cannot_be_said_has_a_code_of_its_own(capsys):
    assert run(["fit", "7B", "--gpu", "4090", "--for", "lora"]) == 4
    assert "no layers to train" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name the card"),
        (("--gpu", "nonsense"), "no accelerator 'nonsense'"),
        (("--gpu", "4090", "--context", "many"), "--context is a number"),
        (("--gpu", "4090", "--quantization", "nf44"), "nf44"),
        (("--gpu", "4090", "--engine", "olama"), "olama"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, says):
    assert run(["fit", "qwen3-0.6b", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": "lora"}, "asks about every method"),
        ({"contxt": 1}, "did you mean context"),
        ({"for": "inference"}, "--for is one of load, infer"),
        ({"smallest": "gpu"}, "leave --gpu out"),
    ],
)
def test_settings_that_fit_has_not(model, given, says):
    with pytest.raises(UsageError, match=says):
        model.fit(gpu=GPU, **given)


@pytest.mark.slow
def test_an_engine_that_trains_nothing_says_so(model):
    found = model.fit(gpu=GPU, engine="llama.cpp")
    assert found.question("infer").report.workload["engine"] == "llama.cpp"
    for name in ("lora", "qlora", "train"):
        assert "trains nothing" in found.question(name).reason
        answer = next(q for q in found.to_dict()["questions"] if q["method"])
        assert answer["report"] is None
        assert answer["verdict"]["fits"] == "unknown"
        assert answer["verdict"]["margin_bytes"] is None


@pytest.mark.slow
def test_settings_go_where_they_belong(model):
    found = model.fit(gpu="h100:2", tensor_parallel_size=2, quantization="nf4", lora_r=32)
    reports = {q.name: q.report for q in found.questions}
    assert reports["infer"] is not None  # transformers has no -tp: training has
    assert reports["lora"].workload["tensor_parallel_size"] == 2
    quantized = {name: r.workload["quantization"] for name, r in reports.items()}
    assert quantized == {"load": "nf4", "infer": "nf4", "lora": None, "qlora": "nf4", "train": None}
    assert reports["qlora"].workload["lora_r"] == 32
    assert reports["train"].workload["lora_r"] is None


@pytest.mark.slow
def test_a_version_is_of_the_engine_that_serves(model):
    found = model.fit(gpu="h100", engine="vllm", engine_version="0.19")
    assert found.question("infer").report.workload["engine_version"] == "0.19"
    assert found.question("lora").report.workload["engine_version"] != "0.19"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["weighbridge.faces.cli.fit", "weighbridge.faces.view.fit"])
def test_no_module_takes_the_place_of_the_function(module):
    code = f"import {module}, weighbridge; weighbridge.fit('qwen3-0.6b', gpu='4090')"
    code += "; from weighbridge import fit; assert callable(fit) and fit is weighbridge.fit"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
def test_what_several_questions_need_is_answered_once(monkeypatch):
    from weighbridge.answers.estimate import train

    told, answer = [], train.train

    def counted(model, workload, **beside):
        told.append((workload, *beside))
        return answer(model, workload, **beside)

    monkeypatch.setattr(train, "train", counted)
    found = weighbridge.prepare("llama-3.1-8b").fit(gpu="3060")
    assert len(told) == len(set(told)) <= 17
    lines = [r.flags for q in found.questions for r in q.report.remedies if q.task == "train"]
    assert "--method qlora" in lines
    assert not any("lora --quantization nf4" in line for line in lines)  # QLoRA by its name


def test_a_value_that_no_question_can_read_is_an_error_of_the_whole(model):
    with pytest.raises(UsageError, match="--lora-r is at least 1"):
        model.fit(gpu=GPU, lora_r=0)
    with pytest.raises(UsageError, match="--checkpointing is one of"):
        model.fit(gpu=GPU, checkpointing="some")


@pytest.mark.slow
def test_a_release_older_than_the_class_is_a_row_beside_the_others(model):
    told = r"SGLang 0\.4\.3 does not know Qwen3ForCausalLM: 0\.4\.5 does"
    release = {"engine": "sglang", "engine_version": "0.4.3"}
    found = {q.name: q for q in model.fit(gpu=GPU, **release).questions}
    assert re.search(told, found["infer"].reason)
    assert all(found[name].verdict for name in ("load", "lora", "qlora", "train"))
    with pytest.raises(ReleaseError, match=told):  # no card mends it
        model.fit(smallest="gpu", **release)


@pytest.mark.slow
def test_peak_is_that_of_the_question_asked_about(model):
    found = model.fit(gpu=GPU, for_="lora")
    assert found.peak == found.question("lora").report.peak


@pytest.mark.parametrize("given", ["[]", '""', "0"])
def test_a_request_whose_workload_is_no_object_is_refused(given):
    line = f'{{"task": "load", "model": "qwen3-0.6b", "workload": {given}}}'
    answer = Requests().answer(line)
    assert "workload is an object of settings" in answer["error"]["message"]
