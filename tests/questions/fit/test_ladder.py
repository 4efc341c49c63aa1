"""The ladder of `fit`: what is asked of which engine, and which rung answers "can I run it?"."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers.questions.fit.ladder import _cards, _Ladder, engine_of, ladder, of_width
from weighbridge.base.units import GIB
from weighbridge.base.watching import NotWantedError
from weighbridge.machines.accelerators.names import find, spoken
from weighbridge.machines.accelerators.parts import parts
from weighbridge.memory.report.plan import Rung, best

slow = pytest.mark.slow


def rung(fits="yes", bits=0, layers=None, gpu=None, shared=False, slower=()):
    verdict = SimpleNamespace(fits=fits, host=SimpleNamespace(shared=shared))
    derived = {} if layers is None else {"layers_on_card": [layers, 80]}
    if slower:
        derived["times_slower"] = slower
    report = SimpleNamespace(verdict=verdict, derived=derived, said={})
    return Rung(change={"gpu": gpu} if gpu else {}, report=report, bits=bits)


WHOLE, LESS = rung(bits=4), rung(bits=3)
SMALL, DIVIDED = rung(bits=2), rung(bits=4, layers=40)
ELSEWHERE, EIGHT = rung(bits=4, gpu="l40s"), rung(bits=8, layers=20)
MAYBE, NOT = rung("unknown", bits=4), rung("no")
ONE_MEMORY = rung(bits=3, layers=40, shared=True)
SLOW, LESS_SLOW = (rung(bits=4, layers=20, slower=times) for times in ((6.5, 16.9), (3.4, 7.9)))


@all_of(
    ("ladder", "answer"),
    [
        ((rung(), WHOLE), 0),
        ((NOT, rung(bits=8), WHOLE), 1),
        ((NOT, EIGHT, WHOLE), 2),
        ((NOT, rung("unknown", bits=8), WHOLE), 2),
        ((NOT, MAYBE, LESS), 2),
        ((NOT, EIGHT, DIVIDED, LESS), 3),
        ((NOT, EIGHT, DIVIDED, SMALL, ELSEWHERE), 2),
        ((NOT, EIGHT, SMALL), 1),
        ((NOT, rung(layers=40), SMALL), 2),
        ((NOT, EIGHT, ELSEWHERE), 1),
        ((NOT, MAYBE, ELSEWHERE), 1),
        ((NOT, MAYBE, DIVIDED), 1),
        ((NOT, MAYBE, SMALL), 2),  # on the same memory, and sure
        ((NOT, MAYBE, DIVIDED, SMALL), 1),
        ((NOT, MAYBE, ONE_MEMORY), 2),  # a yes of another engine, on the same memory
        ((NOT, MAYBE, ONE_MEMORY, LESS), 3),
        ((NOT, EIGHT, SLOW, LESS_SLOW, ELSEWHERE), 3),  # in which order they were tried is no word
        ((NOT, EIGHT, LESS_SLOW, SLOW, ELSEWHERE), 2),
        ((NOT, SLOW, WHOLE), 2),
        ((NOT, rung("no", bits=4), ELSEWHERE), 2),
        ((NOT,), None),
        ((), None),
    ],
)
def test_the_best_format_that_fits_whole_answers(ladder, answer):
    assert best(ladder) is (None if answer is None else ladder[answer])


@all_of(
    ("card", "name"),
    [
        ("4090", "ollama"),
        ("titan-rtx", "ollama"),
        ("7900-xtx", "ollama"),
        ("m4-max-128gb", "ollama"),
        ("gb10", "ollama"),
        ("24GiB", "ollama"),
        ("h100", "vllm"),
        ("t4", "vllm"),
        ("rtx a6000", "vllm"),
        ("mi300x", "vllm"),
        ("gaudi 2", "transformers"),
    ],
)
def test_a_card_has_the_engine_that_people_use_on_it(card, name):
    assert engine_of(find(card).part).name == name


@all_of(
    ("part", "name"),
    [
        ("nvidia-geforce-rtx-5090", "5090"),
        ("nvidia-geforce-rtx-3060-12gb", "3060"),
        ("nvidia-geforce-rtx-4060-ti-16gb", "4060-ti-16gb"),
        ("nvidia-a100-sxm4-80gb", "a100-80gb"),
        ("nvidia-h200-sxm-141gb", "h200"),
        ("apple-m4-max-128gb", "m4-max-128gb"),
        ("nvidia-geforce-rtx-5090-d", "geforce-rtx-5090-d"),  # shorter ones mean two
    ],
)
def test_cards_are_named_as_people_type_them(part, name):
    assert spoken(parts()[part]) == name


@slow
def test_every_spoken_name_means_its_card():
    assert [p.id for p in parts().values() if find(spoken(p)).part is not p] == []


def test_of_a_width_there_is_what_is_made_on_the_fly_or_one_checkpoint():
    forms = ("fp8-tensor", "nf4", "awq-4bit-g128", "gptq-4bit-g128")
    assert of_width(forms, 8) == ("fp8-tensor",)
    assert of_width(forms, 4) == ("nf4",)
    assert of_width(forms[2:], 4) == ("awq-4bit-g128",)
    assert of_width(("Q6_K", "Q5_K_M"), 4) == ()


def test_other_cards_come_smallest_first_and_hold_the_weights():
    from weighbridge.machines.accelerators.budget import budget

    here = budget("4090", None, None)
    assert _cards(here, 40 * GIB, 8)[:2] == ["l40s", "4090:2"]
    assert _cards(here, 400 * GIB, 8)[0] == "h200:4"
    assert _cards(here, 180 * GIB, 4) == ["h200:2", "a100-80gb:4", "b200:2", "h200:4"]
    assert _cards(budget("h100:8", None, None), 640 * GIB, 16)[:2] == ["h200:8", "h100-sxm:16"]
    assert _cards(budget("m4-24gb", None, None), 20 * GIB, 8)[:2] == ["m4-32gb", "m4-pro-48gb"]


QUESTIONS = [
    ("qwen3-32b", {"gpu": "4090"}),
    ("llama-3.1-70b", {"gpu": "4090"}),
    ("llama-3.1-70b", {"gpu": "a100-80gb", "context": 8192}),
    ("gpt-oss-20b", {"gpu": "3060"}),
    ("qwen3:14b", {"gpu": "3060"}),
    ("vit-base-patch16-224", {"gpu": "t4"}),
    ("qwen3-32b", {"gpu": "4090", "quantization": "awq"}),
]


def rungs(model, **settings):
    """The ladder alone, without what the other questions take to answer."""
    from weighbridge.answers.questions.fit import answers
    from weighbridge.answers.questions.fit.request import asked

    prepared, request = weighbridge.prepare(model), asked(settings)
    infer = answers._told(prepared, replace(request, helped=False), "infer").question
    return ladder(prepared, request, infer)


@slow
@pytest.mark.parametrize(("model", "settings"), QUESTIONS, ids=str)
def test_each_rung_is_the_answer_to_its_question(model, settings):
    found, prepared = rungs(model, **settings), weighbridge.prepare(model)
    assert found
    for each in found:
        alone = prepared.infer(remedies=False, **{**settings, **each.change})
        assert alone.verdict == each.verdict
        assert alone.derived.get("launch") == each.report.derived.get("launch")
        assert alone.derived.get("layers_on_card") == each.report.derived.get("layers_on_card")
        if each.longest:
            assert alone.derived["largest_context"] == each.longest


@slow
def test_a_32b_on_a_4090_is_a_yes_at_four_bits():
    found = rungs("qwen3-32b", gpu="4090")
    assert [(r.bits, r.fits, r.whole) for r in found] == [
        (0, "no", True),
        (8, "yes", False),
        (4, "yes", True),
    ]
    assert best(found) is found[2]
    assert found[2].change == {"engine": "ollama", "quantization": "Q4_K_M", "context": 4096}


@slow
def test_where_nothing_fits_the_smallest_card_that_does_is_named():
    found = rungs("deepseek-r1", gpu="h100:8")
    answer = best(found)
    assert (answer.elsewhere, answer.fits, answer.engine) == ("h200:8", "yes", "vllm")


@slow
def test_where_the_servers_formats_do_not_fit_another_engines_may():
    """What the search found to fit on the same cards comes before other cards."""
    found = weighbridge.fit("deepseek-r1", gpu="h100:8")
    assert (found.plan.rung.engine, found.plan.rung.bits, found.plan.rung.elsewhere) == (
        "llama.cpp",
        6,
        "",
    )
    assert [r.bits for r in found.ladder] == [0, 6]
    asked = weighbridge.infer("deepseek-r1", gpu="h100:8", **found.plan.rung.change)
    assert asked.verdict == found.plan.rung.verdict
    infer = found.question("infer")
    remedy = next(r for r in infer.remedies if dict(r.change) == dict(found.plan.rung.change))
    for least, told in ((remedy, (0, 6)), (None, (0, 0))):  # nothing found: as published, elsewhere
        question = replace(infer, report=replace(infer.report, remedies=(least,) if least else ()))
        assert tuple(r.bits for r in ladder_of(question)) == told


def unasked(model="qwen3-0.6b", **settings):
    """A ladder of which no rung was asked but the question itself."""
    from weighbridge.answers.questions.fit.answers import inference, judged
    from weighbridge.answers.questions.fit.request import asked, workload

    prepared, request = weighbridge.prepare(model), asked(settings)
    w = workload("infer", request, inference(prepared, request))
    return _Ladder(prepared, request, judged(prepared, w), ())


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({}, "ollama"),
        ({"quantization": "Q8_0"}, "ollama"),  # the rung that is there without the flag
        ({"quantization": "nf4"}, "transformers"),  # no format of Ollama's, nor of vLLM's rungs
        ({"quantization": "awq"}, "vllm"),  # which people serve it with, at home, too
        ({"quantization": "4bit"}, "ollama"),  # which each engine has of its own
        ({"quantization": "Q8_0", "dtype": "float16"}, "llama.cpp"),  # transformers unpacks it
        ({"quantization": "Q8_0", "engine": "llama.cpp"}, "llama.cpp"),
    ],
)
def test_a_format_that_is_named_has_the_engine_of_its_rung(settings, engine):
    of = unasked(gpu="3090", **settings)
    assert of._engine().name == engine
    first = of._first()
    named = "quantization" in settings and engine in ("ollama", "vllm")
    context = {"context": 4096} if engine == "ollama" else {}
    assert first.change == ({"engine": engine, **context} if named else {})
    assert first.bits == (8 if settings.get("quantization") == "Q8_0" else first.bits)


@pytest.mark.parametrize(
    ("rungs", "others", "chosen"),
    [
        ((NOT,), (DIVIDED, WHOLE), WHOLE),
        ((NOT,), (DIVIDED, EIGHT), DIVIDED),  # nothing else works: what helps is the plan
        ((NOT, EIGHT), (DIVIDED, WHOLE), WHOLE),
        ((NOT, EIGHT), (DIVIDED,), None),
        ((NOT, SLOW), (LESS_SLOW,), LESS_SLOW),  # which is what helps
        ((NOT, LESS_SLOW), (SLOW,), None),
        ((NOT, MAYBE), (DIVIDED,), DIVIDED),
        ((NOT,), (), None),
    ],
)
def test_another_engine_divides_a_model_where_nothing_else_works_or_is_as_fast(
    rungs, others, chosen, monkeypatch
):
    monkeypatch.setattr(_Ladder, "_of_engines", lambda self, first: iter(others))
    assert _Ladder._of_another(_Ladder.__new__(_Ladder), list(rungs)) is chosen


@slow
def test_experts_in_ram_come_before_layers_there():
    """From two ways that both fit by RAM the less slow one answers, from files that are published."""
    plan = weighbridge.fit("glm-4.5-air", gpu="3090", ram="128GiB").plan
    assert (plan.fits, plan.why, plan.engine) == ("yes", "divided", "llama.cpp")
    assert plan.report.derived["divided_by"] == "experts"
    assert plan.report.derived["launch"].startswith(
        "llama-server -hf unsloth/GLM-4.5-Air-GGUF:Q4_K_M "
    )


@slow
@pytest.mark.parametrize(
    ("model", "where", "whole"),
    [
        ("gpt-oss-20b", {"gpu": "3060"}, True),  # of which Ollama keeps 22 of 25 layers
        ("gpt-oss-20b", {"gpu": "m2 16gb"}, False),  # where Ollama says no
        ("gpt-oss-120b", {"gpu": "3090", "ram": "64GiB"}, False),
    ],
)
def test_llama_cpp_takes_the_published_file_where_ollama_does_not_keep_it_whole(
    model, where, whole
):
    """Nobody is sent to convert what somebody published: OpenAI's MXFP4 is 12.1 GB, in one file."""
    plan = weighbridge.fit(model, **where).plan
    assert (plan.fits, plan.engine, plan.rung.whole) == ("yes", "llama.cpp", whole)
    assert plan.rung.format == "MXFP4_MOE"
    assert plan.report.derived["launch"].startswith(f"llama-server -hf ggml-org/{model}-GGUF:MXFP4")


@slow
@pytest.mark.parametrize(
    ("model", "form", "gpu", "format", "engine"),
    [
        ("qwen3-30b-a3b", "4-bit", "4090", "Q4_K_M", "ollama"),  # not nf4, which leaves experts alone
        ("llama-4-scout", "int4", "h100", "awq-4bit-g128", "vllm"),
        ("qwen3-8b", "8bit", "3090", "Q8_0", "ollama"),
        ("gpt-oss-20b", "4bit", "3060", "MXFP4_MOE", "llama.cpp"),  # as it is stored
        ("gpt-oss-120b", "4bit", "h100", "mxfp4", "vllm"),
    ],
)  # fmt: skip
def test_bits_alone_are_the_cards_engines_format_of_them(model, form, gpu, format, engine):  # noqa: A002
    plan = weighbridge.fit(model, quantization=form, gpu=gpu).plan
    assert (plan.fits, plan.format, plan.engine) == ("yes", format, engine)
    named = weighbridge.fit(f"{model}-{form.replace('-', '')}", gpu=gpu).plan
    assert (named.fits, named.format, named.engine) == ("yes", format, engine)


@slow
@pytest.mark.parametrize(
    ("model", "form", "gpu", "engine", "fits"),
    [
        ("qwen3-32b", "awq", "4090", "vllm", "yes"),
        ("qwen3-32b", "gptq", "3090", "vllm", "yes"),
        ("mixtral-8x7b", "awq", "3090:2", "vllm", "yes"),
        ("qwen3-4b", "fp8", "4060", "transformers", "yes"),  # the server's graphs have no room
        ("qwen3-8b", "awq", "4060", "vllm", "unknown"),  # neither surely has
    ],
)
def test_a_servers_format_is_answered_by_the_server_where_it_has_room(
    model, form, gpu, engine, fits
):
    plan = weighbridge.fit(model, quantization=form, gpu=gpu).plan
    assert (plan.fits, plan.engine) == (fits, engine)


@slow
def test_llama_cpp_is_a_rung_only_where_it_fits():
    """On a 5090 the file of 59 GiB is open by both, and a rung beside another's must help."""
    rungs = weighbridge.fit("gpt-oss-120b", gpu="5090").ladder
    assert [rung.fits for rung in rungs if rung.engine == "ollama"] == ["unknown", "yes"]
    assert not [rung for rung in rungs if rung.engine == "llama.cpp"]


@slow
def test_a_context_that_ollama_lowers_is_answered_by_another_engine():
    found = weighbridge.fit("qwen3-32b", gpu="4090", context=128_000)
    short = [r for r in found.ladder if r.engine == "ollama"]
    assert short and all((r.fits, r.short_of) == ("no", 128_000) for r in short)
    assert {r.longest for r in short} <= {None, 40_960}
    assert {r.to_dict()["fits"] for r in short} == {"no"}
    assert (found.fits, found.plan.engine) == ("yes", "llama.cpp")
    assert found.plan.report.workload["context"] >= 128_000


def ladder_of(question):
    from weighbridge.answers.questions.fit.request import asked as read

    return ladder(weighbridge.prepare("deepseek-r1"), read({"gpu": "h100:8"}), question)


@slow
def test_the_answer_in_json_is_about_the_cards_that_were_asked_about():
    found = weighbridge.prepare("qwen3-0.6b").fit(gpu="4090")
    told = found.to_dict()
    assert told["answer"] == {"fits": "yes", "rung": told["ladder"][0]}
    assert told["ladder"][1]["bits"] == 8
    there = replace(found.ladder[1], change={"gpu": "h200"})
    other = replace(found, ladder=(there,)).to_dict()["answer"]
    assert (other["fits"], other["rung"]["change"]) == ("no", {"gpu": "h200"})
    assert replace(found, ladder=()).to_dict()["answer"] is None


@slow
def test_a_search_and_an_answer_without_help_have_no_ladder():
    model = weighbridge.prepare("qwen3-0.6b")
    assert model.fit(gpu="4090", remedies=False).ladder == ()
    assert model.fit(gpu="4090", remedies=False).to_dict()["answer"] is None


@slow
def test_three_bits_are_asked_where_their_bare_bits_have_room(monkeypatch):
    asked, ask = [], _Ladder._asked
    monkeypatch.setattr(
        _Ladder, "_asked", lambda self, change, bits: asked.append(bits) or ask(self, change, bits)
    )
    assert [r.bits for r in rungs("qwen3-14b", gpu="3070") if not r.elsewhere] == [0, 8, 4, 2]
    assert asked[:4] == [8, 4, 3, 2]  # three bits are divided between card and RAM
    asked.clear()
    rungs("qwen3-32b", gpu="3070")
    assert set(asked) == {8, 4}


@slow
def test_formats_are_known_before_training_is_asked_and_where_that_is_stopped():
    model, asked = weighbridge.prepare("qwen3-0.6b"), []
    told = weighbridge.Watch(wanted=lambda: not asked, keeps=True)

    class Stopped(type(model)):
        def train(self, *arguments, **options):
            asked.append(1)
            return super().train(*arguments, **options)

    model = Stopped(model.given, model.options, model.source)
    with weighbridge.watched(told):
        found = model.fit(gpu="4090")
    assert told.stopped
    assert [r.bits for r in found.ladder] == [0, 8, 4]
    assert found.question("train").report is None


@slow
def test_no_rung_is_asked_where_nobody_waits_any_more():
    with (
        pytest.raises(NotWantedError),
        weighbridge.watched(weighbridge.Watch(wanted=lambda: False)),
    ):
        rungs("qwen3-0.6b", gpu="4090")


@pytest.mark.slow
def test_no_rung_is_of_bitsandbytes_where_it_has_no_kernels():
    """Release 0.50 runs on NVIDIA, AMD, Intel and Apple (its installation guide)."""
    found = weighbridge.fit("qwen3-32b", gpu="ascend 910b", offline=True)
    assert not [r.format for r in found.ladder if r.format in ("nf4", "bnb-int8")]
    assert [r.format for r in found.ladder if r.fits == "yes"] == ["Q8_0"]
    assert any("no published bitsandbytes has kernels for Ascend" in w for w in found.warnings)
    there = weighbridge.fit("qwen3-8b", gpu="gaudi2", offline=True)
    assert "bnb-int8" in [r.format for r in there.ladder]


@pytest.mark.slow
@pytest.mark.parametrize(("gpu", "told"), [("ascend 910b", True), ("gaudi2", False)])
def test_who_asks_for_bitsandbytes_there_is_told(gpu, told):
    loaded = weighbridge.load("qwen3-8b", quantization="nf4", gpu=gpu, offline=True)
    served = weighbridge.infer("qwen3-8b", quantization="nf4", gpu=gpu, offline=True)
    trained = weighbridge.train("qwen3-8b", method="qlora", gpu=gpu, offline=True)
    for report in (loaded, served, trained):
        assert any("no published bitsandbytes" in w for w in report.warnings) is told


@slow
@pytest.mark.parametrize("model", ["bert-base-uncased", "gpt2"])
def test_formats_are_compared_at_one_length_that_the_model_has(model):
    """No more than its positions: a small model in fewer bits was told not to fit."""
    rungs = weighbridge.fit(model, gpu="4060", offline=True).ladder
    assert {rung.fits for rung in rungs} == {"yes"}
    assert len({rung.report.setting("context") for rung in rungs}) == 1
    assert len(rungs) > 1


@slow
@pytest.mark.parametrize("engine", [{}, {"engine": "ollama"}, {"engine": "llama.cpp"}])
def test_a_format_in_a_models_name_is_the_plans_whoever_runs_it(engine):
    plan = weighbridge.fit("qwen3-8b q4", gpu="3060 12GB", **engine).plan
    assert (plan.fits, plan.format) == ("yes", "Q4_K_M")
    free = weighbridge.fit("qwen3-8b", gpu="3060 12GB", **engine).plan
    assert free.format == "Q8_0"


@slow
def test_a_bare_size_is_not_told_that_it_reads_no_text():
    found = weighbridge.fit("70b", gpu="24gb")
    assert any("bare size" in line for line in found.warnings)
    assert not any("reads no text" in line for line in found.warnings)
