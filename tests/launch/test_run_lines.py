"""Run lines of plans, typed back: the same answer, in a repository that the catalogue names too."""

import hashlib

import pytest

import weighbridge
from tests.cases import all_of, some
from weighbridge.answers.questions.fit.ladder import planned
from weighbridge.answers.questions.fit.request import asked
from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.models import catalogue
from weighbridge.models.catalogue import everyday

CARDS = ("3060", "4090", "h100", "m3 max 64gb", "strix-halo-128gb", "2x3090")
SAMPLE = sorted(catalogue.names(), key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:60]


def told(report):
    """What a plan and its line are to have in common."""
    w, v = report.workload, report.verdict
    form = w["quantization"] or w["dtype"]
    return w["engine"], w.get("engine_version"), form, v.fits, v.per_device, v.host


def by_a_file(line, gpu):
    (run,) = weighbridge.weigh(line, name="-", gpu=gpu, offline=True).runs
    return run.report


def reads_back(report, gpu):
    line = report.derived["launch"]
    typed = weighbridge.infer(command=line, gpu=gpu, offline=True)
    assert told(typed) == told(report), line
    assert told(by_a_file(line, gpu)) == told(report), line
    return typed


@pytest.mark.parametrize(
    ("model", "gpu", "asks", "named"),
    [
        ("qwen3-30b-a3b", "m3 max 64gb", ("mlx", "mlx-4bit-g64"), "mlx-community/Qwen3-30B-A3B-4"),
        ("gpt-oss-20b", "3060", ("llama.cpp", "MXFP4_MOE"), "ggml-org/gpt-oss-20b-GGUF:MXFP4 "),
        ("qwen3-30b-a3b", "strix-halo-128gb", ("llama.cpp", "Q3_K_M"), "-GGUF:Q3_K_M "),
        ("llama-3.1-8b", "4090", ("vllm", "awq-4bit-g128"), "hugging-quants/Meta-Llama-3.1-8B-I"),
        ("gemma-4-e4b", "4090", ("llama.cpp", "Q4_K_M"), "Q4_K_M -c 4096 --no-mmproj"),
        ("qwen2.5-32b", "2x3090", ("ollama", "Q8_0"), "ollama create -q Q8_0"),
        ("qwen3.5-35b-a3b", "3060", ("llama.cpp", "Q4_K_M"), "-m qwen3.5-35b-a3b-Q4_K_M.gguf -c"),
    ],
)
def test_a_line_of_a_repository_that_we_name_has_the_answer_of_the_plan(model, gpu, asks, named):
    engine, form = asks
    more = {"engine": engine, "quantization": form, "context": 4096}
    report = weighbridge.infer(model, gpu=gpu, offline=True, **more)
    assert named in report.derived["launch"]
    reads_back(report, gpu)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("regnety-320", {"batch_size": 8, "image_size": (192, 224), "dtype": "float16"}),
        ("yolo11l", {"batch_size": 4, "image_size": (320, 640)}),
        ("retinanet_resnet50_fpn", {}),
        ("rtdetr_r18vd", {"batch_size": 8}),
        ("bge-large-zh-v1.5", {}),
    ],
)
def test_a_line_of_python_has_the_answer_of_its_network(model, more):
    report = weighbridge.infer(model, gpu="3060", **more)
    typed = reads_back(report, "3060")
    sides = ("batch_size", "image_size")
    assert [typed.workload.get(n) for n in sides] == [report.workload.get(n) for n in sides]


def test_a_tower_that_is_counted_is_loaded():
    asks = {"engine": "llama.cpp", "quantization": "Q4_K_M", "context": 4096}
    counted = weighbridge.infer("gemma-4-e4b", **asks, mmproj_auto=True)
    alone = weighbridge.infer("gemma-4-e4b", **asks)
    assert "--no-mmproj" not in counted.derived["launch"]
    assert alone.derived["launch"].endswith(" --no-mmproj")
    assert counted.peak.expected > alone.peak.expected
    made = weighbridge.infer("qwen3.5-35b-a3b", **asks)
    assert "--no-mmproj" not in made.derived["launch"]


YOLO = 'from ultralytics import YOLO; YOLO("yolo11n.pt").'


@all_of(
    ("line", "told"),
    [
        (f'{YOLO}predict("a/", imgsz=320, batch=2, half=True)', (2, "320x320", "float16")),
        (f'{YOLO}predict("a/", imgsz=[320, 640])', (None, "640x320", None)),
        (f'{YOLO}predict("a/", imgsz=[320])', (None, None, None)),
        (f"{YOLO}info(imgsz=320, batch=2)", (None, None, None)),
        ('net = timm.create_model("vit_base_patch16_224")', (None, None, None)),
        ('x.to("cuda", torch.half); timm.create_model("resnet50")', (None, None, None)),
        ('timm.create_model("resnet50").to(torch.float16)', (None, None, "float16")),
        ('timm.create_model("resnet50").to(device)', (None, None, None)),
        ('timm.create_model("resnet50")(torch.randn(2, 3, side, side))', (2, None, None)),
        ('timm.create_model("resnet50")(torch.randn(2, 3))', (None, None, None)),
    ],
)
def test_what_a_line_says_of_pictures(line, told):
    launch = parse(line)
    sized = (launch.settings.get(name) for name in ("batch_size", "image_size", "dtype"))
    assert tuple(sized) == told
    assert launch.model in ("yolo11n", "timm/vit_base_patch16_224", "timm/resnet50")


@all_of(
    "line",
    [f'{YOLO}train(data="coco.yaml")', "timm.create_model(args.model)", "timm.create_model()"],
)
def test_a_network_that_is_trained_or_not_written_out_is_no_launch(line):
    with pytest.raises(UsageError):
        parse(line)


TRAINED = """\
import timm, torch
net = timm.create_model("resnet50").to("cuda")
net(torch.randn(8, 3, 224, 224)).sum().backward()
with torch.no_grad():
    net(torch.randn(8, 3, 224, 224))
"""


def test_a_script_that_trains_is_not_read_as_one_that_looks():
    (run,) = weighbridge.weigh(TRAINED, name="a.py", gpu="3060", offline=True).runs
    assert run.report is None
    seen = TRAINED.replace(".sum().backward()", "")
    (run,) = weighbridge.weigh(seen, name="a.py", gpu="3060", offline=True).runs
    assert run.report.workload["batch_size"] == 8


def test_a_name_that_is_not_ours_is_guessed():
    ours, theirs = (
        weighbridge.infer(f"{owner}/Qwen3-30B-A3B-GGUF:Q3_K_M", engine="llama.cpp", offline=True)
        for owner in ("unsloth", "somebody")
    )
    assert theirs.peak.expected == ours.peak.expected
    assert theirs.peak.high > ours.peak.high
    mix = weighbridge.infer("unsloth/Qwen3-30B-A3B-GGUF:Q3_K_L", engine="llama.cpp", offline=True)
    assert mix.peak.high / mix.peak.expected > ours.peak.high / ours.peak.expected
    known, usual = map(
        everyday.of_owner, ("mlx-community/Qwen3-8B-4bit", "mlx-community/Qwen3-8B-3bit")
    )
    assert (known.note, bool(usual.note)) == ("", True)


@pytest.mark.slow
def test_files_in_parts_are_for_another_engine():
    """Of 46 GiB and more the Hub has parts, which Ollama does not take."""
    request = asked({"gpu": "strix-halo-128gb", "context": 4096})
    model = weighbridge.prepare("glm-4.5-air", offline=True)
    plan = planned(model, request)
    assert (plan.engine, plan.rung.change["engine"]) == ("llama.cpp", "llama.cpp")
    reads_back(plan.report, "strix-halo-128gb")
    named = asked({"gpu": "strix-halo-128gb", "context": 4096, "engine": "ollama"})
    assert planned(model, named).engine == "ollama"


@pytest.mark.parametrize(("number", "name"), some(20, list(enumerate(SAMPLE))))
def test_the_line_of_a_plan_has_its_answer(number, name):
    gpu = CARDS[number % len(CARDS)]
    plan = planned(weighbridge.prepare(name, offline=True), asked({"gpu": gpu}))
    if plan.rung is not None and plan.report.derived.get("launch"):
        reads_back(plan.report, plan.settings.get("gpu", gpu))
