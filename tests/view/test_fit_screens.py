"""Screens of `fit`, of answers side by side and of ranks, sign by sign: tests/screens/*.txt.

WRITE_SCREENS=1 pytest tests/view/test_fit_screens.py     writes them anew: read the difference
"""

import os
from functools import cache
from pathlib import Path

import pytest

import weighbridge
from weighbridge.base.words import words_in
from weighbridge.faces.render import draw, render
from weighbridge.faces.render.terminal import cells
from weighbridge.faces.view import beside, ladder, ranks
from weighbridge.faces.view.changes import few
from weighbridge.faces.view.fit import screen
from weighbridge.faces.view.records import Paste, RenderOptions

KEPT = Path(__file__).parents[1] / "screens"
pytestmark = pytest.mark.slow  # five questions each, with all that would make them fit

ASKED = {
    "fit-llama-on-a-3060": ("llama-3.1-8b", {"gpu": "3060"}),
    "fit-llama-on-two-a100": ("llama-3.1-70b", {"gpu": "a100-80gb:2", "for": "load"}),
    "fit-qwen-on-a-mac": ("qwen3-30b-a3b", {"gpu": "m3 max 64gb", "engine": "llama.cpp"}),
    "fit-vit-on-a-t4": ("vit-base-patch16-224", {"gpu": "t4"}),
    "fit-a-bare-size": ("7B", {"gpu": "4090", "max": "model-size"}),
}
LOOKS = {
    "80": RenderOptions(),
    "60": RenderOptions(width=60),
    "120": RenderOptions(width=120),
    "ascii": RenderOptions(plain=True),
    "zh": RenderOptions(lang="zh"),
}


@cache
def answer(name):
    model, settings = ASKED[name]
    return weighbridge.fit(model, **settings)


def kept(name, shown):
    path = KEPT / f"{name}.txt"
    if os.environ.get("WRITE_SCREENS"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ASKED)
def test_screens_are_what_they_were(name):
    found = answer(name)
    shown = [f"--- {title}\n{render(found, 'human', look)}" for title, look in LOOKS.items()]
    shown.append(f"--- markdown\n{render(found, 'markdown')}")
    kept(name, "\n".join(shown))


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(name, width):
    found = answer(name)
    pastes = (b.text for b in screen(found).blocks if isinstance(b, Paste))
    pasted = {line.strip() for text in pastes for line in text.splitlines()}
    for line in render(found, "human", RenderOptions(width=width)).splitlines():
        assert cells(line) <= width or line.strip() in pasted, line


@pytest.mark.parametrize("name", ASKED)
def test_every_question_is_answered_within_its_rows(name):
    found = answer(name)
    first = render(found, "human").partition("Exit code")[0]
    for sign, fits in (("✓", "yes"), ("✗", "no")):
        told = (q for q in found.questions if q.task != "load" or q is found.asked)
        if any(q.fits == fits for q in told):
            assert sign in first
    code = {"yes": 0, "no": 1, "unknown": 4}[found.fits]
    assert f"Exit code {code}: " in render(found, "human")


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_verdict_stands_above_the_table(name, lang):
    found, words = answer(name), words_in(lang)
    verdict = {"yes": "verdict.yes", "no": "verdict.no", "unknown": "verdict.unknown"}
    first = render(found, "human", RenderOptions(lang=lang)).split("\n\n")[1]
    said = words(verdict[found.fits])
    if found.about == "infer" and found.solved is None:
        said = {"en": "Yes, ", "zh": "可以"}[lang]
        assert found.fits == "yes"
    assert said in first


def test_full_training_that_no_method_saves_names_the_cards_that_do():
    found = weighbridge.fit("qwen3-14b", gpu="3060")
    there = found.question("train").elsewhere
    assert there is not None
    assert there.fits == "yes"
    again = weighbridge.train("qwen3-14b", **there.change)
    assert again.verdict.fits == "yes"
    assert again.verdict.per_device.expected == there.peak_bytes
    number = there.change["gpu"].partition(":")[2]
    assert f"about {number} x H100 with fsdp2" in " ".join(render(found, "human").split())
    fewer = {**there.change, "gpu": f"h100-sxm:{int(number) - 1}"}
    assert weighbridge.train("qwen3-14b", **fewer).verdict.fits != "yes"


def test_cards_elsewhere_leave_alone_what_was_asked():
    found = weighbridge.fit("llama-3.1-8b", gpu="3060", shard="ddp", **{"for": "train"})
    assert found.question("train").elsewhere is None


def test_every_change_says_what_it_costs_in_a_few_words():
    words = words_in("en")
    for name in ASKED:
        for q in answer(name).questions:
            for r in q.remedies:
                told = few(words, r)
                assert 1 <= len(told.split()) <= 8, r
                if r.price.money:
                    assert "card" in told
                if r.price.quality == r.price.speed == r.price.scope == r.price.money == 0:
                    assert told == ("another program" if "engine" in r.change else "free")


def test_a_notebook_shows_it():
    found = answer("fit-vit-on-a-t4")
    assert "T4" in render(found, "html")
    assert str(found) == render(found, "human")
    assert found._repr_markdown_() == render(found, "markdown")
    assert found._repr_html_() == render(found, "html")


def test_details_tell_what_every_change_costs():
    found = answer("fit-llama-on-a-3060")
    cost = found.question("load").remedies[0].cost.split(";")[0]
    folded = " ".join(render(found, "human").split())
    assert cost not in folded
    assert cost in " ".join(render(found, "human", RenderOptions(details=True)).split())


def test_columns_are_what_they_were():
    model = weighbridge.prepare("qwen3-0.6b")
    reports = [model.infer(gpu="t4", batch_size=n) for n in (1, 4, 16)]
    labels = [f"batch-size {n}" for n in (1, 4, 16)]
    fits = [model.fit(gpu=g) for g in ("t4", "4090")]
    shown = [draw(beside.reports(reports, labels), form) for form in ("human", "markdown")]
    shown.append(draw(beside.fits(fits, ["t4", "4090"], lang="zh"), "human"))
    kept("side-by-side", "\n".join(shown))


def test_models_by_cards_are_a_table_on_a_page():
    asked = [(model, gpu) for model in ("qwen3-0.6b", "qwen3-32b") for gpu in ("t4", "4090:2")]
    fits = [weighbridge.fit(model, gpu=gpu) for model, gpu in asked]
    labels = [" ".join(one) for one in asked]
    (crossed,), *rest = beside.fits(fits, labels, page=True).sections
    assert tuple(rest) == beside.fits(fits, labels).sections
    assert [column.head for column in crossed.columns[1:]] == ["T4", "2 x GeForce RTX 4090"]
    assert [row[0].text for row in crossed.rows] == ["qwen3-0.6b", "qwen3-32b"]
    for cell, fit in zip((c for row in crossed.rows for c in row[1:]), fits, strict=True):
        assert cell.mark == ladder.plan_mark(fit.plan)
        assert ("GiB" in cell.text) == fit.plan.here
    for some in (fits[:3], fits[:2], fits[::2], [*fits[:3], fits[0]]):  # not each on each
        assert beside.fits(some, labels[: len(some)], page=True) == beside.fits(
            some, labels[: len(some)]
        )


def test_a_rank_is_what_it_was():
    found = weighbridge.prepare("llama-3.1-70b").gpus(**{"for": "load"})
    shown = [draw(ranks.ranking(found), "human"), draw(ranks.ranking(found, full=True), "markdown")]
    kept("rank-of-cards", "\n".join(shown))


def test_the_answer_of_a_large_model_on_one_card_is_one_screen():
    """A terminal has 24 lines."""
    assert len(render(weighbridge.fit("qwen3-32b", gpu="4090"), "human").splitlines()) <= 24
