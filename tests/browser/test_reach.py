"""For everyone: keyboard, screen reader, small screens, both themes, both languages."""

import pytest

from tests.browser.conftest import settled, state_of, unfolded, verdict
from tests.cases import each

LLAMA = "llama-3.1-8b"
SERVE = {"model": LLAMA, "gpu": "4090", "engine": "vllm"}
STATES = {
    "fit": ("fit", {"model": LLAMA, "gpu": "3060"}),
    "load": ("load", {"model": LLAMA, "gpu": "3060"}),
    "infer": ("infer", {**SERVE, "details": "1"}),
    "train": ("train", {"model": "qwen3-0.6b", "gpu": "3060", "method": "lora", "batch_size": "8"}),
    "compare": ("compare", {"of": "infer", "with": "model=llama-3.1-8b&gpu=4090&engine=vllm"}),
    "gpus": ("gpus", {"pattern": "h100"}),
    "models": ("models", {"pattern": "qwen3"}),
    "accuracy": ("accuracy", {"engine": "vllm"}),
    "registry": ("registry", {"id": "qwen3"}),
    "oom": ("oom", {"model": LLAMA, "gpu": "4090"}),
    "welcome": ("fit", {}),
    "error": ("infer", {"model": LLAMA, "context": "many"}),
}


def in_turn(first, second):
    """Each state in both, of which CI has one: the first, then the second of the next state."""
    pairs = ([first, second], [second, first])
    return each(2, [(state, one) for i, state in enumerate(STATES) for one in pairs[i % 2]])


@pytest.mark.parametrize(("state", "scheme"), in_turn("light", "dark"))
def test_axe_finds_nothing(opened, state, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    task, said = STATES[state]
    page = opened(task, **said, where={"color_scheme": scheme, "reduced_motion": "reduce"})
    unfolded(page)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("state", "lang"), in_turn("en", "zh"))
def test_a_phone_of_360_pixels(opened, state, lang):
    task, said = STATES[state]
    page = opened(task, **said, lang=lang, where={"viewport": {"width": 360, "height": 740}})
    unfolded(page)
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
          .filter((e) => e.getBoundingClientRect().right > 361 && !e.closest(".scrolled, .tabs, .strip, svg, .unseen, .sides .picture"))
          .map((e) => e.tagName + "." + e.className).slice(0, 5)"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_verdict_stays_in_sight_on_a_phone(opened):
    page = opened("infer", **SERVE, where={"viewport": {"width": 360, "height": 740}})
    box = page.locator(".strip").bounding_box()
    assert box["y"] + box["height"] == pytest.approx(740, abs=1)
    assert verdict(page) in page.inner_text(".strip")


def test_on_a_phone_the_answer_comes_first_and_the_form_folds(opened):
    page = opened("infer", **SERVE, where={"viewport": {"width": 360, "height": 740}})
    assert page.locator(".headline").bounding_box()["y"] < 740
    assert not page.locator("#model").is_visible()
    page.click(".fold")
    assert page.locator("#model").is_visible()


def test_a_row_on_a_desk_and_the_answer_below_it_without_scrolling(opened):
    desk = {"viewport": {"width": 1440, "height": 900}}
    page = opened("infer", **SERVE, where=desk, more=False)
    row = ("#set-gpu", "#set-quantization", "#set-context")
    box, *places = (page.locator(one).bounding_box() for one in ("#model", *row))
    assert max(p["y"] for p in places) - min(p["y"] for p in places) < 4
    assert 0 < min(p["y"] for p in places) - box["y"] - box["height"] < 12
    bar = page.locator(".weighed .picture").bounding_box()
    assert bar["y"] + bar["height"] < 900
    page.set_viewport_size({"width": 768, "height": 900})
    form, answer = (page.locator(one).bounding_box() for one in (".form", ".answers"))
    assert form["x"] + form["width"] < answer["x"] and answer["y"] < form["y"] + 40


def test_by_keyboard_alone(opened):
    page = opened()
    page.keyboard.press("Tab")
    reached = []
    for _ in range(12):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "model":
            break
        page.keyboard.press("Tab")
    assert reached[-1] == "model" and "tab-fit" in reached
    page.keyboard.type("llama-3.1-8b")
    page.keyboard.press("Enter")
    settled(page)
    page.focus("#tab-fit")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert state_of(page)["task"] == "infer"
    assert page.evaluate("document.activeElement.id") == "tab-infer"
    page.focus("#set-gpu")
    page.keyboard.type("h100")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    settled(page)
    assert "fits" in verdict(page)
    page.keyboard.press("End")
    page.focus("#export")
    page.keyboard.press("Enter")
    page.wait_for_selector("#export-forms:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_selector("#export-forms", state="hidden")
    assert page.evaluate("document.activeElement.id") == "export"


def test_every_control_shows_that_it_is_reached(opened):
    page = opened("infer", **SERVE)
    for at in range(25):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => { const e = document.activeElement; if (e === document.body) return true;
              const of = e.type === "file" ? e.nextElementSibling : e;
              return getComputedStyle(of).outlineStyle !== "none"; }"""
        )
        assert seen, f"stop {at}: {page.evaluate('document.activeElement.outerHTML.slice(0, 120)')}"


def test_answers_are_read_aloud(opened):
    page = opened("infer", **SERVE)
    assert page.get_attribute("#live", "role") == "status"
    before = page.text_content("#live")
    assert "fits on RTX 4090" in before
    page.fill("#set-context", "65536")
    page.keyboard.press("Enter")
    settled(page)
    assert page.text_content("#live") != before


def test_every_setting_has_a_name_and_a_sentence(opened):
    page = opened("infer", **SERVE)
    bare = page.evaluate(
        """() => [...document.querySelectorAll(".form [data-setting]")].filter((field) => {
          const told = (part) => field.querySelector(part)?.textContent.trim();
          return !told("label") || !told(".help");
        }).map((field) => field.dataset.setting)"""
    )
    assert bare == []
