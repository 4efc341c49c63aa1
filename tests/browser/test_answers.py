"""Answers on the page: each tab, sliders, remedies, links, languages."""

import json
import re

import pytest

from tests.browser.conftest import settled, state_of, verdict
from weighbridge.answers.questions.requests import Requests

LLAMA = "llama-3.1-8b"


def asked(task, model, **workload):
    """What `weighbridge run` answers."""
    request = {"task": task, "model": model, "workload": workload}
    return Requests(offline=True).answer(json.dumps(request))


def bytes_in(text):
    value, unit = re.fullmatch(r"([\d.,]+) (KiB|MiB|GiB)", text.strip()).groups()
    return float(value.replace(",", "")) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]


def test_an_example_answers_at_once(opened):
    page = opened()
    page.get_by_role("button", name=re.compile(LLAMA)).click()
    settled(page)
    assert [
        one.get_attribute("data-question") for one in page.locator("[data-question]").all()
    ] == [*("lora", "qlora", "full")]
    assert page.locator("[data-rung]").count() >= 3
    assert page.inner_text(".headline strong").startswith("Yes, ")
    assert "4090" in page.inner_text("h2#answer")
    assert state_of(page)["model"] == LLAMA


def test_a_model_is_found_as_people_type_it(opened):
    page = opened("load")
    page.fill("#model", "Llama 3.1 8")
    options = page.locator("#model-list [role=option]")
    options.first.wait_for()
    assert LLAMA in options.first.inner_text()
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#model", "aria-activedescendant") == "model-list-0"
    page.keyboard.press("Enter")
    settled(page)
    assert state_of(page)["model"] == LLAMA
    assert "8.03 B" in page.inner_text("h2#answer")


@pytest.mark.parametrize(
    ("typed", "picked", "given"),
    [
        ("4090", "4090", None),
        ("2x rtx 4090", "4090", ":2"),
        ("4张3090", "3090", ":4"),
        ("a100 80", "A100", None),
    ],
)
def test_a_card_is_found_as_people_type_it(opened, typed, picked, given):
    page = opened("load", model=LLAMA)
    page.fill("#set-gpu", typed)
    options = page.locator("#set-gpu-list [role=option]")
    options.first.wait_for()
    assert picked in options.first.inner_text()
    options.first.click()
    settled(page)
    assert page.locator(".headline .sign").count() == 1
    if given:
        assert state_of(page)["gpu"].endswith(given)


def test_the_chosen_option_is_in_sight(opened):
    page = opened("load", model=LLAMA)
    page.click("#set-gpu")
    page.locator("#set-gpu-list [role=option]").first.wait_for()
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    chosen = page.locator("#set-gpu-list [aria-selected=true]")
    place, box = page.locator("#set-gpu-list").bounding_box(), chosen.bounding_box()
    assert place["y"] <= box["y"] and box["y"] + box["height"] <= place["y"] + place["height"] + 1


def test_the_picture_is_to_scale_and_its_table_says_the_same(opened):
    page = opened("infer", model=LLAMA, gpu="4090", engine="vllm", context="32768")
    report = asked("infer", LLAMA, gpu="4090", engine="vllm", context=32768)
    peak = report["devices"][0]["phases"]
    total = max(p["bytes"]["expected"] for p in peak)
    shown = page.locator(".parts > tbody > tr:not(.inside) > td:nth-child(2)").all_inner_texts()
    assert sum(map(bytes_in, shown)) == pytest.approx(total, rel=0.02)
    line = page.evaluate("parseFloat(document.querySelector('.weighed .limit').getAttribute('x1'))")
    widths = page.evaluate(
        "[...document.querySelectorAll('.weighed .picture > rect[class^=s]')].map((r) => parseFloat(r.getAttribute('width')))"
    )
    usable = report["verdict"]["usable_bytes"]
    assert sum(widths) / line == pytest.approx(total / usable, rel=0.03)
    assert page.get_attribute(".weighed .picture", "role") == "img"
    assert "weights" in page.get_attribute(".weighed .picture", "aria-label")


def test_every_number_says_how_it_is_computed(opened):
    page = opened("infer", model=LLAMA, gpu="4090", engine="vllm")
    report = asked("infer", LLAMA, gpu="4090", engine="vllm")
    components = [c for p in report["devices"][0]["phases"] for c in p["components"]]
    cache = next(c for c in components if c["name"] == "kv_cache")
    for button in page.locator("button.how").all():
        button.click()
        assert button.get_attribute("aria-expanded") == "true"
    told = page.inner_text(".parts")
    assert cache["formula"] in told and cache["source"][:40] in told
    assert page.locator(".told .basis").count() >= 5


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("infer", {"context", "batch_size", "max_num_seqs"}),
        ("train", {"seq_len", "batch_size", "lora_r"}),
        ("fit", {"context", "batch_size", "seq_len"}),
    ],
)
def test_every_slider_asks_again(opened, task, settings):
    more = {"infer": {"engine": "vllm"}, "train": {"method": "lora"}, "fit": {}}[task]
    page = opened(task, model="qwen3-0.6b", gpu="4090", **more)
    sliders = page.locator(".form .chips > .field.slide, .form .rest > .field.slide")
    found = {one.get_attribute("data-setting") for one in sliders.all()}
    assert settings <= found
    for name in sorted(found):
        field = page.locator(f".form [data-setting={name}]")
        before = page.inner_text("#live")
        field.locator("input[type=range]").focus()
        page.keyboard.press("ArrowRight")
        settled(page)
        value = state_of(page)[name]
        assert field.locator("input[type=text]").input_value() == value
        assert field.locator("input[type=range]").get_attribute("aria-valuetext") == value
        assert page.locator(".problem").count() == 0
        assert before or page.inner_text("#live")


def test_a_slider_that_is_dragged_ends_with_its_last_value(opened):
    page = opened("infer", model=LLAMA, gpu="4090", engine="vllm")
    page.evaluate(
        """() => {
          const box = document.querySelector("[data-setting=context] input[type=range]");
          for (let at = Number(box.min); at <= Number(box.max) - 20; at += 1) {
            box.value = String(at);
            box.dispatchEvent(new Event("input", { bubbles: true }));
          }
        }"""
    )
    settled(page)
    context = int(state_of(page)["context"])
    assert f"{context:,} tokens" in page.inner_text("h2#answer")


def test_a_box_takes_what_the_command_line_takes(opened):
    page = opened("infer", model=LLAMA, gpu="4090")
    page.fill("#set-context", "32K")
    page.keyboard.press("Enter")
    settled(page)
    assert "32,768 tokens" in page.inner_text("h2#answer")
    assert state_of(page)["context"] == "32K"


def test_a_wrong_value_is_told_at_its_place(opened):
    page = opened("infer", model=LLAMA, gpu="4090")
    page.fill("#set-context", "many")
    page.keyboard.press("Enter")
    page.wait_for_selector("#set-context-error")
    settled(page)
    assert "Context (tokens) is a number" in page.inner_text("#set-context-error")
    assert page.get_attribute("#set-context", "aria-invalid") == "true"
    assert "set-context-error" in page.get_attribute("#set-context", "aria-describedby")
    page.fill("#set-context", "4096")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator(".problem").count() == 0 and "fits" in verdict(page)


def test_a_remedy_applies_itself(opened):
    page = opened("train", model="qwen3-0.6b", gpu="3060", batch_size="4")
    assert verdict(page).startswith("does not fit")
    first = page.locator("button.remedy").first
    settings = re.findall(r"--([a-z-]+) (\S+)", first.inner_text())
    first.click()
    page.wait_for_selector(".headline.yes, .headline.tight")
    settled(page)
    said = state_of(page)
    assert settings and all(said[name.replace("-", "_")] == value for name, value in settings)


def test_a_row_of_fit_opens_its_own_tab(opened):
    page = opened("fit", model=LLAMA, gpu="3060")
    row = page.locator("[data-question=lora]")
    assert row.locator(".sign.no").count() == 1
    assert "--" not in row.locator("button.offer").first.inner_text()
    row.locator("summary").click()
    assert "--method qlora" in row.locator(".flags code").first.inner_text()
    row.locator("button.offer").first.click()
    settled(page)
    assert state_of(page)["task"] == "train" and state_of(page)["method"] == "qlora"
    assert verdict(page).startswith("fits")


def test_a_format_of_the_ladder_opens_its_question(opened):
    page = opened("fit", model=LLAMA, gpu="3060")
    report = asked("fit", LLAMA, gpu="3060")
    rungs = page.locator("[data-rung]")
    assert [one.get_attribute("data-rung") for one in rungs.all()] == [
        rung["format"] for rung in report["ladder"]
    ]
    widths = page.evaluate(
        "[...document.querySelectorAll('.rung .picture > rect[class^=s]')].map((r) => parseFloat(r.getAttribute('width')))"
    )
    peaks = [rung["peak_bytes"] for rung in report["ladder"]]
    assert widths[-1] / widths[0] == pytest.approx(peaks[-1] / peaks[0], rel=0.03)
    rung = report["ladder"][-1]
    rungs.last.locator("button").click()
    settled(page)
    said = state_of(page)
    assert said["task"] == "infer"
    assert all(str(said[name]) == str(value) for name, value in rung["change"].items())
    assert size_of(page.inner_text(".headline .figures")) == pytest.approx(
        rung["peak_bytes"], rel=0.02
    )


def test_formats_stand_with_the_size_of_their_weights(opened):
    page = opened("infer", model=LLAMA, gpu="3060", engine="llama.cpp")
    assert page.get_attribute("#set-quantization", "placeholder") == "BF16"
    said = "(one) => document.querySelector(`#set-quantization-some [value=${one}]`).label"
    small, large = (page.evaluate(said, one) for one in ("Q4_K_M", "Q8_0"))
    sizes = [float(re.search(r"from ([\d.]+) GiB", one)[1]) for one in (small, large)]
    assert 4 < sizes[0] < 5 and 7.5 < sizes[1] < 8.5
    bare = opened("load", model="gpt2")
    assert bare.get_attribute("#set-quantization", "placeholder") == "as published"


def size_of(figures):
    return float(re.search(r"about ([\d.]+)", figures)[1]) * 2**30


def test_a_bar_that_is_longer_than_the_scale_is_cut(opened):
    page = opened("fit", model="qwen3-32b", gpu="4090")
    report = asked("fit", "qwen3-32b", gpu="4090")
    far = [rung["peak_bytes"] > 2.6 * rung["usable_bytes"] for rung in report["ladder"]]
    cut = [rung.locator(".cut").count() > 0 for rung in page.locator("[data-rung]").all()]
    assert cut == far == [True, *[False] * (len(far) - 1)]


def test_models_by_cards_are_typed_and_compared(opened):
    page = opened("compare")
    page.fill("#compare-models", "qwen3-0.6b, llama-3.1-8b")
    page.keyboard.press("Tab")
    page.fill("#compare-cards", "t4, 4090")
    page.keyboard.press("Tab")
    settled(page)
    said = state_of(page)
    assert said["of"] == "fit"
    table = page.locator("table.grid").first
    assert table.locator("thead th").all_inner_texts()[1:] == ["T4", "GeForce RTX 4090"]
    assert table.locator("tbody th").all_inner_texts() == ["qwen3-0.6b", "llama-3.1-8b"]
    assert table.locator("tbody .sign").count() == page.locator(".sides .picture .s14").count() == 4


@pytest.mark.parametrize(
    ("task", "first", "typed"),
    [
        ("compare", ("#compare-models", "qwen3-0.6b"), ("#compare-cards", "t4, 4090")),
        ("infer", ("#set-batch_size", "3"), ("#set-context", "16k")),
        ("infer", ("#set-context", "16k"), ("#command", "vllm serve qwen3-8b")),
        ("infer", ("#set-context", "16k"), (".many", "2")),
        ("infer", ("#set-context", "16k"), ("#set-gpu_memory_utilization", "0.8")),
    ],
)
def test_an_answer_leaves_alone_what_is_being_typed(opened, task, first, typed):
    page = opened(task, model=LLAMA, gpu="4090", engine="vllm")
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.fill(*first)
    page.keyboard.press("Tab")
    page.fill(*typed)
    settled(page)
    assert page.input_value(typed[0]) == typed[1]
    page.keyboard.press("Tab")
    settled(page)
    assert page.input_value(typed[0]) == typed[1]


def test_formats_of_load_apply_themselves(opened):
    page = opened("load", model=LLAMA, gpu="3060")
    page.get_by_role("button", name="Apply: nf4").click()
    page.wait_for_selector(".headline.yes, .headline.tight")
    settled(page)
    assert state_of(page)["quantization"] == "nf4"


def test_a_link_reopens_the_same_answer(opened):
    state = {
        "model": LLAMA,
        "gpu": "4090",
        "engine": "vllm",
        "context": "8192",
        "kv_cache_dtype": "fp8",
    }
    page = opened("infer", **state, lang="zh", details="1")
    again = opened(url=page.url)
    assert again.inner_text(".result") == page.inner_text(".result")
    assert again.input_value("#set-kv_cache_dtype") == "fp8"


def test_share_copies_the_link(opened):
    granted = {"permissions": ["clipboard-read", "clipboard-write"]}
    page = opened("load", model=LLAMA, where=granted)
    page.click("#share")
    page.wait_for_selector(".said:not(:empty)")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("markdown", "**llama-3.1-8b"),
        ("json", "{"),
        ("svg", "<svg"),
        ("csv", ""),
        ("html", "<!doctype html"),
    ],
)
def test_export(opened, form, begins):
    page = opened("load", model=LLAMA, gpu="4090")
    page.click("#export")
    with page.expect_download() as saved:
        page.click(f"[data-form={form}]")
    text = saved.value.path().read_text(encoding="utf-8")
    assert text.lower().startswith(begins.lower()) or LLAMA in text[:200]
    assert LLAMA in text


def test_export_of_the_command_line(opened):
    granted = {"permissions": ["clipboard-read", "clipboard-write"]}
    page = opened("load", model=LLAMA, gpu="4090", where=granted)
    page.click("#export")
    page.click("[data-form=command]")
    page.wait_for_selector(".said:not(:empty)")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == "weighbridge load llama-3.1-8b --gpu 4090"


def test_a_command_is_judged_as_it_is(opened):
    page = opened("infer", gpu="4090")
    page.click("details.command summary")
    page.fill("#command", "vllm serve org/tiny \\\n  --max-model-len 1024")
    page.press("#command", "Tab")
    page.wait_for_selector(".headline")
    settled(page)
    assert "1,024 tokens" in page.inner_text("h2#answer")
    assert page.locator("#set-context").count() == 0  # the command says it
    page.click("#command-clear")
    page.wait_for_selector("#set-context")


def test_compare_puts_answers_on_one_scale(opened):
    page = opened("infer", model=LLAMA, gpu="4090", engine="vllm")
    page.click("#compare-this")
    settled(page)
    page.get_by_role("button", name="Duplicate: 1").click()
    page.fill("#beside-1-model", "qwen3-0.6b")
    page.press("#beside-1-model", "Enter")
    page.wait_for_selector(".side >> nth=1")
    settled(page)
    again = opened(url=page.url)
    assert again.locator(".side").count() == 2
    lines = again.evaluate(
        "[...document.querySelectorAll('.sides .picture .limit')].map((l) => l.getAttribute('x1'))"
    )
    assert len(set(lines)) == 1  # the same card
    assert "qwen3-0.6b" in again.inner_text(".sides")


@pytest.mark.parametrize(
    ("tab", "cell"), [("gpus", "H100"), ("models", LLAMA), ("accuracy", "vllm")]
)
def test_tables(opened, tab, cell):
    page = opened(tab)
    assert cell in page.inner_text(".result table")


def test_a_card_of_the_list_is_taken_from_there(opened):
    page = opened("gpus", pattern="4090", lang="zh")
    page.locator(".result tbody a").first.click()
    page.wait_for_selector("[role=tab][aria-selected=true]#tab-fit")
    assert "4090" in state_of(page)["gpu"]
    assert page.input_value("#lang") == "zh"


def test_only_what_is_relevant_is_asked(opened):
    page = opened("infer", model=LLAMA)
    assert page.locator("#set-gpu_memory_utilization").count() == 0
    page.select_option("#set-engine", "vllm")
    page.wait_for_selector("#set-gpu_memory_utilization", state="attached")
    settled(page)
    page.select_option("#set-engine", "llama.cpp")
    page.wait_for_selector("#set-n_gpu_layers", state="attached")
    assert page.locator("#set-gpu_memory_utilization").count() == 0
    opened_train = opened("train", model=LLAMA)
    assert opened_train.locator("#set-lora_r").count() == 0
    opened_train.select_option("#set-method", "lora")
    opened_train.wait_for_selector("#set-lora_r")


def test_chinese(opened):
    page = opened("infer", model=LLAMA, gpu="4090", engine="vllm", lang="zh")
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert "放得下" in verdict(page)
    assert page.inner_text("#share") == "复制链接"
    page.select_option("#lang", "en")
    page.wait_for_selector("#share:text-is('Copy link')")
    settled(page)
    assert "fits" in verdict(page)


def test_a_chinese_browser_has_chinese(opened):
    page = opened("load", model=LLAMA, where={"locale": "zh-CN"})
    assert page.input_value("#lang") == "zh"


def test_dark_by_the_system_and_by_the_switch(opened):
    page = opened("load", model=LLAMA, where={"color_scheme": "dark"})
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.select_option("#theme", "light")
    page.wait_for_selector(":root[data-theme=light]")
    assert page.evaluate(ground) != dark
    page.reload()
    settled(page)
    assert page.evaluate(ground) != dark  # it is remembered
    page.select_option("#theme", "dark")
    page.wait_for_selector(":root[data-theme=dark]")
    assert page.evaluate(ground) == dark


def test_a_press_on_a_head_sorts_by_its_column(opened):
    page = opened("gpus", pattern="rtx 40")
    head = page.locator("th", has=page.locator("button.sorts", has_text="sold as"))
    cells = (
        "[...document.querySelector('table.grid').tBodies[0].rows].map((r) => r.cells[1].innerText)"
    )
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    down = [int(text.split()[0]) for text in page.evaluate(cells)]
    assert down == sorted(down, reverse=True)
    assert down[0] > down[-1]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [int(text.split()[0]) for text in page.evaluate(cells)] == down[::-1]


@pytest.mark.parametrize(
    ("texts", "down", "order"),
    [
        (["8.19 B", "", "596.05 M", "1.57 T"], True, [3, 0, 2, 1]),
        (["512 MiB", "23.5 GiB", "", "1,008 MiB"], False, [0, 3, 1, 2]),
        (["2026-03", "", "2025-12"], True, [0, 2, 1]),
        (["qwen3-14b", "qwen3-8b", "bert"], False, [2, 1, 0]),
        (["5", "5", "7"], True, [2, 0, 1]),
    ],
)
def test_the_order_of_a_column(opened, texts, down, order):
    page = opened("gpus", pattern="4090")
    told = page.evaluate(
        """async ([texts, down]) => (await import("./sorting.js")).order(
        texts.map((text) => [{ text }]), 0, down)""",
        [texts, down],
    )
    assert told == order
