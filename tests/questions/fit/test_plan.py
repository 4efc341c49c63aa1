"""The plan of `fit`, chosen once: what answers, for which reason, and what it says of itself."""

from types import SimpleNamespace

from tests.cases import all_of
from tests.questions.fit.test_ladder import rung
from weighbridge.answers.questions.fit.answers import _warnings
from weighbridge.answers.questions.fit.request import FitRequest, asked
from weighbridge.base.memory import exactly
from weighbridge.memory.report.fit import Question
from weighbridge.memory.report.plan import Plan, Rung, as_asked, chosen

DIVIDED = rung(bits=4, layers=20)


@all_of(
    ("ladder", "fits", "why"),
    [
        ((rung(),), "yes", "whole"),
        ((rung("no"), rung(bits=8)), "yes", "whole"),
        ((rung("no"), rung("unknown", bits=8)), "unknown", "whole"),
        ((rung("no"), DIVIDED), "yes", "divided"),
        ((rung("no"), rung("unknown", bits=4, layers=20)), "unknown", "divided"),
        ((rung("no"), rung("unknown", bits=4, layers=20), rung(gpu="h200")), "unknown", "divided"),
        ((rung("no"), rung(gpu="h200")), "no", "elsewhere"),
        ((rung("no"), rung("unknown", bits=2)), "unknown", "whole"),
        ((rung("no"),), "no", "nothing"),
    ],
)
def test_a_ladder_has_one_answer(ladder, fits, why):
    plan = chosen(ladder)
    assert (plan.fits, plan.why, plan.here) == (fits, why, why != "elsewhere")


def test_what_undoes_a_typed_setting_is_no_yes():
    undone = Rung(change={"share": 0.9}, report=rung().report, undoes="--share 0.9")
    plan = chosen((rung("no"), undone, rung(gpu="h200")))
    assert (plan.fits, plan.why, plan.rung, plan.here) == ("no", "undone", undone, False)


def sized(context, asked, **more):
    """A rung whose engine sized so many tokens of those that were asked for."""
    report = rung(**more).report
    report.said, report.setting = {"context": asked}, {"context": context}.get
    return Rung(change={}, report=report, bits=4)


@all_of(
    ("context", "asked", "short"),
    [
        (40_960, 128_000, 128_000),
        (8192, 8000, 0),
        (8000, 8000, 0),
        (7999, 8000, 8000),
        (9, None, 0),
    ],
)
def test_fewer_tokens_than_were_asked_for_are_no_yes(context, asked, short):
    """Ollama lowers num_ctx to the 40,960 tokens of qwen3-32b."""
    one = sized(context, asked)
    assert (one.short_of, one.fits) == (short, "no" if short else "yes")
    assert as_asked(one.report).fits == chosen((one,)).fits == one.fits
    divided = sized(context, asked, layers=20)
    assert chosen((rung("no"), divided)).why == ("nothing" if short else "divided")


def test_warnings_of_inference_are_those_of_the_plan():
    def warned(*lines):
        report = rung().report
        report.warnings = lines
        return report

    infer, lora = (Question(name=n, report=warned(n)) for n in ("infer", "lora"))
    plan = chosen((Rung(change={}, report=warned("plan")),))
    assert [*_warnings(infer, plan), *_warnings(lora, plan)] == ["plan", "lora"]
    there = chosen((Rung(change={"gpu": "h200"}, report=warned("there")),))
    nothing = chosen((rung("no"),))
    for other in (there, nothing):
        assert _warnings(infer, other) == ("infer",)
    assert _warnings(Question(name="load"), plan) == ()


def test_a_question_as_asked_is_a_plan():
    assert as_asked(None) == Plan(fits="unknown", why="asked")
    plan = as_asked(rung("no").report, 512)
    assert (plan.fits, plan.why, plan.rung.longest, plan.settings) == ("no", "asked", 512, {})


def test_a_plan_tells_engine_format_layout_and_settings():
    workload = {
        "engine": "vllm",
        "engine_version": "0.33",
        "quantization": None,
        "dtype": "bfloat16",
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 1,
        "data_parallel_size": None,
        "enable_expert_parallel": True,
        "tensor_split": None,
    }
    verdict = SimpleNamespace(
        fits="yes",
        accelerator="H100",
        count=2,
        per_device=exactly(7),
        usable_bytes=9,
        margin_bytes=2,
    )
    launched = {"launch": "vllm serve x"}
    report = SimpleNamespace(verdict=verdict, workload=workload, derived=launched, said={})
    told = chosen((Rung(change={"engine": "vllm"}, report=report, longest=4096),)).to_dict()
    assert told == {
        "fits": "yes",
        "why": "whole",
        "engine": "vllm",
        "engine_version": "0.33",
        "format": "bfloat16",
        "accelerator": "H100",
        "count": 2,
        "layers_on_card": None,
        "layout": {"tensor_parallel_size": 2, "enable_expert_parallel": True},
        "settings": {"engine": "vllm"},
        "peak_bytes": 7,
        "usable_bytes": 9,
        "margin_bytes": 2,
        "largest_context": 4096,
        "launch": "vllm serve x",
    }
    lowered = SimpleNamespace(**vars(report) | {"said": {"context": 9}, "setting": {}.get})
    assert Rung(change={}, report=lowered).to_dict()["fits"] == "yes"
    lowered.setting = {"context": 8}.get
    assert Rung(change={}, report=lowered).to_dict()["fits"] == "no"


@all_of(
    ("given", "chooses"),
    [
        ({}, True),
        ({"as_published": True}, True),
        ({"max": "context"}, True),
        ({"max": "users"}, True),
        ({"smallest": "count"}, True),
        ({"max": "model-size"}, False),
        ({"max": "seq-len", "for": "qlora"}, False),
        ({"smallest": "count", "for": "train"}, False),
        ({"for": "train"}, True),
    ],
)
def test_formats_are_tried_where_a_model_is_to_be_run(given, chooses):
    assert asked({"gpu": "4090", **given}).chooses is chooses


def test_a_request_with_the_settings_of_a_plan():
    request = FitRequest(settings={"gpu": "4090"}, inference="vllm", as_published=True)
    planned = request.planned({"engine": "sglang", "quantization": "fp8"})
    assert planned.settings == {"gpu": "4090", "engine": "sglang", "quantization": "fp8"}
    assert (planned.inference, planned.as_published) == ("sglang", True)
    assert request.planned({}) == request
