"""Pipelines in every face: lines of JSON, agents, lists of values, details, charts, the catalogue."""

import json

import pytest

import weighbridge
from tests.ask import typed
from tests.cases import all_of
from weighbridge.answers.questions.fit import pictures as fit_pictures
from weighbridge.answers.questions.fit.pipelines import WAYS, _families, pipelines_for
from weighbridge.answers.questions.requests import OF_PIPELINES, Requests, meant_task
from weighbridge.answers.remedies import pictures
from weighbridge.base.errors import UsageError
from weighbridge.faces.agents.answering import Answers
from weighbridge.faces.charts.reports import bars
from weighbridge.faces.cli.menu import run
from weighbridge.faces.cli.models import told
from weighbridge.faces.cli.questions import cases
from weighbridge.faces.view.records import RenderOptions
from weighbridge.faces.web.asks import AnswerView
from weighbridge.faces.web.command import command
from weighbridge.machines.accelerators.names import find
from weighbridge.memory.report.fit import Ranking
from weighbridge.memory.report.plan import Plan, Rung, chosen_way
from weighbridge.models import catalogue
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import components
from weighbridge.workload import PICTURE

SD = "sd-1.5"
CARD, LOOK = {"gpu": "3060"}, RenderOptions()
FLAGS = {"vae_tiling": True, **CARD}


@pytest.fixture(scope="module")
def desk():
    return Requests(offline=True)


def asked(desk, task, model=SD, **workload):
    request = {"task": task, "model": model, "workload": workload, "remedies": False}
    return desk.answer(json.dumps(request))


@pytest.mark.slow
def test_serving_a_pipeline_is_making_pictures_with_it(desk):
    served = asked(desk, "infer", **FLAGS)
    assert served == asked(desk, "image", **FLAGS)
    assert served == weighbridge.prepare(SD).image(remedies=False, **FLAGS).to_dict()
    assert asked(desk, "train", **CARD) == asked(desk, "train_image", **CARD)


@all_of(
    ("request_", "task"),
    [
        ({"task": "infer", "model": SD}, "image"),
        ({"task": "train", "model": SD}, "train_image"),
        ({"task": "load", "model": SD}, "load"),
        ({"task": "infer", "model": "gpt2"}, "infer"),
        ({"task": "infer", "model": SD, "workload": {"command": "vllm serve x"}}, "infer"),
    ],
)
def test_the_task_that_is_meant(request_, task):
    assert meant_task(request_) == task


def test_a_pipeline_fits_by_api_as_on_the_command_line(capsys):
    run(["fit", SD, "--gpu", "3060", "--offline", "--json"])
    assert weighbridge.fit(SD, gpu="3060", offline=True).to_dict() == json.loads(
        capsys.readouterr().out
    )


def test_a_request_is_the_command_that_is_typed():
    line = "weighbridge image sd-1.5 --vae-tiling --gpu 3060"
    for task in ("infer", "image"):
        assert command({"task": task, "model": SD, "workload": FLAGS}, AnswerView()) == line
    training = {"task": "train", "model": SD, "workload": {"size": [512, 768]}}
    assert command(training, AnswerView()) == "weighbridge train-image sd-1.5 --size 768x512"


@pytest.mark.slow
def test_agents_ask_of_pipelines_what_they_ask_of_models():
    agent = Answers(offline=True)
    told = agent.call("infer", {"model": SD, **FLAGS})
    assert told.numbers["fits"] == "yes" and told.numbers["peak_phase"] in ("denoise", "decode")
    assert "| encode | text_encoder |" in told.text.replace("✓ ", "")
    assert not agent.call("infer", {"model": SD, "detail": "full", **FLAGS}).failed
    listed = agent.call("models", {"pattern": "flux.1"})
    assert {"flux.1-dev", "flux.1-schnell"} <= {one["name"] for one in listed.numbers["models"]}
    known = agent.call("settings", {"task": "infer", "pattern": "vae_tiling"})
    assert known.numbers["settings"]["vae_tiling"]["description"].endswith("(pipelines)")
    assert set(OF_PIPELINES) == {"infer", "train"}


@all_of(
    ("name", "value", "count"),
    [
        ("size", "512x512,1024x1024", 2),
        ("size", "480p,720p", 2),
        ("size", "1024,768", 1),
        ("quantization", "transformer=fp8,text_encoder_2=nf4", 1),
        ("quantization", "fp8,nf4", 2),
        ("offload", "none,model", 2),
    ],
)
def test_values_that_stand_side_by_side(name, value, count):
    assert len(cases([SD], {name: value}, PICTURE)) == count


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--details"], ["--explain", "--lang", "zh"], ["--format=html"]])
@pytest.mark.parametrize("name", ["image", "train-image"])
def test_every_form_is_printed(capsys, name, more):
    code, out, err = typed(capsys, name, SD, "--gpu", "3060", *more)
    assert code == 0 and SD in out and "defect" not in err


@pytest.mark.slow
def test_remedies_of_details_are_told_in_chinese(capsys):
    _, out, _ = typed(capsys, "image", "flux.1-dev", "--gpu", "3060", "--details", "--lang", "zh")
    assert "显卡上一次只放一个组件" in out.partition("可以改为")[2]


@pytest.mark.slow
def test_a_chart_has_a_bar_a_stage():
    report = weighbridge.infer(SD, gpu="3060")
    drawn = bars(report)
    assert drawn.title == "Running sd-1.5 with diffusers"
    assert [bar.label for bar in drawn.plots[0].groups[0].bars] == ["encode", "denoise", "decode"]


@pytest.mark.slow
def test_pipelines_of_a_card_are_told_in_the_first_way_that_fits():
    rows = pipelines_for([SD, "flux.1-dev"], CARD).rows
    assert [row["name"] for row in rows] == ["flux.1-dev", SD]
    flux, sd = rows
    assert (sd["fits"], sd["settings"]) == ("yes", {})
    number = next(i for i, way in enumerate(WAYS) if way.settings == flux["settings"])
    again = weighbridge.infer("flux.1-dev", **CARD, **flux["settings"])
    assert (again.verdict.fits, again.verdict.per_device.expected) == ("yes", flux["peak_bytes"])
    for way in WAYS[:number]:
        assert weighbridge.infer("flux.1-dev", **CARD, **way.settings).verdict.fits != "yes"
    assert pipelines_for([SD, "flux.1-dev"], CARD, shown=1).rows == rows[:1]


@pytest.mark.slow
def test_a_screen_has_one_of_each_class_and_what_people_run():
    names = ["sd-1.5", "sd-2.1", "flux.1-dev", "flux.1-schnell", "wan2.1-t2v-1.3b", "ltx-video"]
    rows = pipelines_for(names, CARD, shown=12).rows
    assert rows[0]["name"] == "flux.1-dev"
    assert {row["name"] for row in rows} == {"sd-1.5", "flux.1-dev", "wan2.1-t2v-1.3b", "ltx-video"}
    assert len(pipelines_for(names, CARD).rows) == len(names)


def test_pipelines_are_put_in_order_by_sizes_that_the_catalogue_has(monkeypatch):
    """sdxl and playground-v2.5 have one denoiser; of svd nobody offers a GGUF, and sdxl fits."""
    names = ["svd", "sdxl", "playground-v2.5"]
    assert [name for name in names if pipelines.find(name).gguf] == ["sdxl"]
    denoisers = {name: pipelines.find(name).denoiser() for name in names}
    for name, (part, config) in denoisers.items():
        counted = catalogue.parameters()[f"{name}/{part}"]
        assert counted == components.blueprint(config).parameters
    monkeypatch.setattr(components, "declared", None)  # none is counted anew
    families = _families(names, {}, apart=False)
    assert [[one.name for one in family] for family in families] == [["sdxl"], ["svd"]]
    one, two, three = (family[0] for family in _families(names, {}, apart=True))
    assert (one.name, two.parameters) == ("svd", three.parameters)


def test_what_has_no_answer_is_left_out_by_name(monkeypatch, capsys):
    strange = pipelines.find("sd-1.5")._replace(name="odd", parts={"unet": {"_class_name": "Odd"}})
    monkeypatch.setattr(pipelines, "find", lambda name: strange)
    ranked = pipelines_for(["odd"], CARD)
    assert ranked.rows == () and "Odd" in ranked.left_out["odd"]
    rank = Ranking(of="models", about="infer", rows=(), left_out=ranked.left_out)
    told(rank, "json", LOOK, None)
    out, err = capsys.readouterr()
    assert json.loads(out)["left_out"].keys() == {"odd"} and "odd is left out: " in err


def test_the_catalogue_lists_pipelines_below_models(capsys):
    code, out, _ = typed(capsys, "models", "flux.1-dev")
    assert code == 0 and "black-forest-labs/FLUX.1-dev" in out
    _, out, _ = typed(capsys, "models", "sdxl-turbo", "--json")
    assert [one["name"] for one in json.loads(out)["pipelines"]] == ["sdxl-turbo"]
    _, out, _ = typed(capsys, "models", SD, "--json", "--gpu", "3060")
    assert [one["name"] for one in json.loads(out)["pipelines"]] == [SD]
    _, out, _ = typed(capsys, "models", SD, "-q", "--gpu", "3060")
    assert out == f"{SD}\n"
    code, _, err = typed(capsys, "models", SD, "--use", "text")
    assert code == 2 or "no model" in err


# ---- fit of a pipeline


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "first", "code"),
    [
        ("sd-1.5 --gpu 3060", "✓ fits on RTX 3060 12GB", 0),
        ("flux.1-dev --gpu 3060", "✓ Yes on RTX 3060 12GB, with --offload model", 0),
        ("flux.1-dev --gpu 3060 --dtype bfloat16 --quantization bnb-int8 --offload none", "✗", 1),
        ("sd-1.5 --smallest gpu", "✓ ", 0),
        ("sdxl --for lora --gpu 8gb", "✓ Yes on 8 GB card, with --framework kohya", 0),
        ("sdxl --for train --gpu 8gb", "✗", 1),
        ("wan2.1-t2v-14b --engine comfyui --gpu 4090 --quantization Q8_0", "✓ Yes", 0),
    ],
)
def test_fit_ends_with_its_first_line(capsys, words, first, code):
    assert run(["fit", *words.split(), "--format", "human"]) == code
    assert capsys.readouterr().out.splitlines()[2].startswith(first)
    assert run(["fit", *words.split(), "-q"]) == code
    assert capsys.readouterr().out == {0: "yes\n", 1: "no\n"}[code]


def test_a_smaller_picture_is_no_yes_of_what_was_asked():
    asked = weighbridge.prepare(SD).image(gpu_memory="1.5GiB", remedies=False)
    fits = weighbridge.prepare(SD).image(gpu_memory="24GiB", remedies=False)
    assert (asked.verdict.fits, fits.verdict.fits) == ("no", "yes")
    first = Rung(change={}, report=asked)
    small, packed = (
        Rung(change={name: value}, report=fits)
        for name, value in (("size", (256, 256)), ("quantization", "nf4"))
    )
    assert chosen_way((first, small)) == Plan(fits="no", why="asked", rung=first)
    assert chosen_way((first, small, packed)) == Plan(fits="yes", why="whole", rung=packed)


@pytest.mark.parametrize(("name", "gpu"), [("flux.1-dev", "3060"), ("wan2.1-t2v-14b", "4090")])
def test_a_rung_of_a_pipeline_is_what_its_remedy_says(name, gpu):
    fit = weighbridge.fit(name, gpu=gpu)
    (question,) = fit.questions
    assert [dict(rung.change) for rung in fit.ladder] == [
        {},
        *(dict(remedy.change) for remedy in question.remedies),
    ]
    for rung, remedy in zip(fit.ladder[1:], question.remedies, strict=True):
        assert (rung.fits, rung.verdict.per_device) == (remedy.fits, remedy.per_device)
    assert fit.plan.fits == fit.fits == fit.to_dict()["verdict"]["fits"]
    assert fit.to_dict()["verdict"]["margin_bytes"] == fit.plan.rung.verdict.margin_bytes
    again = weighbridge.fit(name, gpu=gpu, **fit.plan.settings)
    assert again.plan.why == "asked" and again.fits == "yes"


def test_a_training_of_a_pipeline_fits_with_the_first_change_that_trains_the_same():
    """As text models' do: "no" is no answer to what everybody trains with checkpoints and nf4."""
    fit = weighbridge.fit("flux.1-dev", gpu="3090", **{"for": "lora"})
    asked = weighbridge.prepare("flux.1-dev").train_image(gpu="3090", method="lora", remedies=False)
    assert (fit.fits, fit.asked.fits, fit.about, fit.plan.why) == (
        *("yes", "no", "train_image", "changed"),
    )
    assert fit.asked.report.peak == asked.peak
    assert {"size", "batch_size", "lora_r", "method"}.isdisjoint(fit.plan.settings)
    again = weighbridge.fit("flux.1-dev", gpu="3090", **{"for": "lora"}, **fit.plan.settings)
    assert (again.fits, again.plan.why) == ("yes", "asked")
    assert again.peak == fit.peak
    kept = weighbridge.fit("sdxl", gpu="4090", **{"for": "train"})
    assert kept.asked.report.workload["method"] == "full"
    with pytest.raises(UsageError, match="takes no --max"):
        weighbridge.fit("sdxl", gpu="4090", max="batch")
    with pytest.raises(UsageError, match="name the card"):
        weighbridge.fit("sdxl", **{"for": "lora"})


def test_without_a_card_a_pipeline_is_asked_of_the_smallest_that_holds_it():
    fit = weighbridge.fit(SD)
    assert (
        fit.solved.value == fit.accelerator.id == weighbridge.fit(SD, smallest="gpu").solved.value
    )
    assert fit.fits == "yes" and fit.solved.peak_bytes == fit.plan.report.peak.expected


def test_where_no_card_holds_a_pipeline_the_largest_is_asked(monkeypatch):
    monkeypatch.setattr(pictures, "_smallest", lambda w, ask: "")
    fit = weighbridge.fit(SD)
    assert fit.solved.value is None
    assert fit.accelerator.id == pictures.sold_cards()[-1].id


def test_the_smallest_card_is_looked_for_without_one(capsys):
    assert run(["fit", SD, "--smallest", "gpu", "--gpu", "3060"]) == 2
    assert "leave --gpu out" in capsys.readouterr().err
    assert run(["image", SD, "--smallest", "gpu"]) == 2


def test_pipelines_beside_each_other_are_told_by_their_plans(capsys):
    assert run(["fit", SD, "flux.1-dev", "--gpu", "3060", "--format", "human"]) == 0
    rows = capsys.readouterr().out.splitlines()
    (way,) = (row for row in rows if row.strip().startswith("run it"))
    assert way.split("✓")[1:] == [" as published, diffusers  ", " Q4_K_S, diffusers"]
    assert "✗" not in "".join(rows)
    assert "flux.1-dev: --offload model --quantization Q4_K_S" in rows


@pytest.mark.parametrize(
    ("cards", "first"),
    [
        ({"": "L20", "model": "L4"}, "✓ L20: the smallest card that holds it "),
        (
            {"model": "GeForce RTX 5090 D"},
            "✓ GeForce RTX 5090 D: the smallest card that holds it, with --offload model",
        ),
        ({}, "✗ No card of the catalogue surely holds it as it was asked: "),
    ],
)
def test_the_first_line_names_the_smallest_card(capsys, monkeypatch, cards, first):
    monkeypatch.setattr(pictures, "_smallest", lambda w, ask: cards.get(w.offload or "", ""))
    if not cards:
        monkeypatch.setattr(fit_pictures, "sold_cards", lambda: [find("gtx 1650").part])
    code = run(["fit", "flux.1-dev", "--smallest", "gpu", "--format", "human"])
    assert code == (0 if cards else 1)
    assert capsys.readouterr().out.splitlines()[2].startswith(first)


@pytest.mark.parametrize("task", ["image", "video", "picture"])
def test_one_task_has_one_name_and_old_ones_are_read(desk, task):
    told = asked(desk, task, SD, gpu="3060")
    assert told == asked(desk, "infer", SD, gpu="3060")


def test_training_a_pipeline_is_asked_by_name(desk):
    told = asked(desk, "train_image", SD, gpu="3060")
    assert (
        told == asked(desk, "train", SD, gpu="3060") == asked(desk, "picture_training", gpu="3060")
    )
    assert "image" in asked(desk, "paint")["error"]["message"]
