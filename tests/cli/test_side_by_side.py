"""Several models, cards or values of one setting: a column each, in JSON a list of reports."""

import json

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.faces.cli.menu import run
from weighbridge.faces.cli.questions import cases
from weighbridge.workload import FIT, INFER, LOAD, MOST_BESIDE, TRAIN, TUNE

SMALL = "qwen3-0.6b"


def told(capsys, *arguments, code=0):
    assert run(list(arguments)) == code
    return capsys.readouterr().out


def listed(capsys, *arguments):
    return json.loads(told(capsys, *arguments, "--json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "flag", "values", "setting"),
    [
        ("infer", "--batch-size", ["1", "2", "4", "8"], "batch_size"),
        ("infer", "--context", ["1K", "2K"], "context"),
        ("load", "--quantization", ["nf4", "Q4_K_M"], "quantization"),
        ("train", "--seq-len", ["128", "256"], "seq_len"),
        ("train", "--optimizer", ["adamw_torch", "sgd"], "optimizer"),
    ],
)
def test_values_of_one_setting(capsys, task, flag, values, setting):
    found = listed(capsys, task, SMALL, flag, ",".join(values))
    alone = [getattr(weighbridge, task)(SMALL, **{setting: v}).to_dict() for v in values]
    assert found == json.loads(json.dumps(alone))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["load", "infer", "train"])
def test_several_models_and_cards(capsys, task):
    found = listed(capsys, task, SMALL, "bert-base-uncased", "--gpu", "t4", "--gpu", "4090")
    names = [(r["model"]["name"], r["workload"]["gpu"]) for r in found]
    assert names == [(m, g) for m in (SMALL, "bert-base-uncased") for g in ("t4", "4090")]


@pytest.mark.slow
def test_fits_stand_beside_each_other(capsys):
    found = json.loads(told(capsys, "fit", SMALL, "--for", "load", "--gpu", "t4,4090", "--json"))
    assert [f["accelerators"][0]["name"] for f in found] == ["T4", "GeForce RTX 4090"]
    assert all(f["schema"] == "weighbridge.fit/1" for f in found)


@pytest.mark.slow
def test_a_pipeline_stands_beside_a_model(capsys):
    """Each has the rows of its own questions; what neither was asked is no row."""
    screen = told(capsys, "fit", SMALL, "flux.1-dev", "--gpu", "3060", code=0)
    rows = {line[:10].strip(): line for line in screen.splitlines() if line.startswith("  ")}
    assert [*rows][1:] == ["for you", "run it", "needs", "LoRA 2K", "QLoRA 2K", "full 2K"]
    assert "as published, transformers  ✓ Q4_K_S, diffusers" in rows["run it"]
    assert rows["LoRA 2K"].count("✓") == 1 and "image" not in screen.replace("train-image", "")
    assert run(["fit", SMALL, "flux.1-dev", "--gpu", "3060", "--max", "context"]) == 2
    assert "takes no --max" in capsys.readouterr().err


@pytest.mark.slow
def test_the_exit_code_is_that_of_the_worst(capsys):
    arguments = ["load", "llama-3.1-8b", "--gpu", "3060", "--gpu", "4090"]
    assert run(arguments) == 0
    assert run([*arguments, "--check"]) == 1
    asked = ["--for", "load", "--gpu", "3060", "--gpu", "4090"]
    assert run(["fit", "llama-3.1-8b", *asked]) == 1
    assert run(["fit", SMALL, *asked]) == 0


@all_of(
    ("setting", "given", "count"),
    [
        ("gpu", "1x4090+1x3090", 1),
        ("gpu", "a100-80gb,8", 1),
        ("gpu", "3060,4090", 2),
        ("gpu", ("3060", "4090,t4"), 3),
        ("lora_targets", "q_proj,v_proj", 1),
        ("image_size", "1280,720", 1),
        ("optim_args", "foreach=False,fused=True", 1),
        ("tensor_split", "3,1", 1),
        ("draft_model", "./a,b", 1),
        ("batch_size", "1, 2,4", 3),
        ("batch_size", 8, 1),
        ("compile", True, 1),
    ],
)
def test_commas_belong_to_values_that_own_them(setting, given, count):
    table = {**TRAIN, **INFER}
    assert len(cases(("a",), {setting: given}, table)) == count


@pytest.mark.parametrize("given", ["1,,2", "1,", ",2"])
def test_an_empty_piece_is_an_error(given):
    with pytest.raises(UsageError, match="between commas"):
        cases(("a",), {"batch_size": given}, INFER)


def test_more_than_a_page_is_an_error(capsys):
    values = ",".join(map(str, range(1, MOST_BESIDE + 2)))
    assert run(["infer", SMALL, "--batch-size", values]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{MOST_BESIDE + 1} answers beside each other" in err
    assert "--batch-size" in err
    assert err.count("\n") == 1


def test_labels_tell_the_cases_apart():
    found = cases(("a", "b"), {"gpu": ("3060", "4090"), "context": "1K,2K"}, INFER)
    labels = [case.label for case in found]
    assert len(set(labels)) == len(labels) == 8
    assert labels[0] == "a 3060 context 1K"
    assert cases(("a", "a"), {}, LOAD)[0].label == ""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["human", "markdown", "html", "quiet"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_form_shows_every_answer(capsys, form, lang):
    out = told(capsys, "infer", SMALL, "--gpu", "t4,4090", "--format", form, "--lang", lang)
    reports = [weighbridge.infer(SMALL, gpu=g) for g in ("t4", "4090")]
    if form == "quiet":
        assert out.split() == [str(r.peak.expected) for r in reports]
        return
    for name in ("t4", "4090"):
        assert name in out
    for r in reports:
        assert f"{r.verdict.per_device.expected / 2**30:.1f} GiB" in out


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4, 6])
@pytest.mark.parametrize("width", [80, 120])
def test_columns_fit_the_terminal(capsys, monkeypatch, count, width):
    monkeypatch.setenv("COLUMNS", str(width))
    values = ",".join(str(2**n) for n in range(count))
    out = told(capsys, "train", SMALL, "--gpu", "4090", "--batch-size", values)
    assert max(map(len, out.splitlines())) <= width
    assert all(f"batch-size {2**n}" in out for n in range(count))


@pytest.mark.slow
def test_a_command_and_several_cards(capsys):
    line = "vllm serve Qwen/Qwen3-0.6B --max-model-len 2048"
    found = listed(capsys, "infer", "--command", line, "--gpu", "4090", "--gpu", "t4")
    assert [r["workload"]["gpu"] for r in found] == ["4090", "t4"]
    assert all(r["workload"]["context"] == 2048 for r in found)


def test_all_settings_of_fit_are_known():
    assert {*INFER, *TUNE} - {"method", "exact"} == set(FIT)
