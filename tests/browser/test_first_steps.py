"""What a person does first, in the order in which they do it."""

import pytest

import weighbridge
from tests.browser.conftest import open_settings, settled, state_of

LLAMA = "llama-3.1-8b"
NONE = "No change was found"


@pytest.mark.parametrize(
    ("task", "state"),
    [
        ("train", {"model": "qwen3-8b", "gpu": "4090", "method": "qlora"}),
        (
            "infer",
            {
                "model": "qwen3-30b-a3b",
                "engine": "llama.cpp",
                "gpu": "M3 Max 64GB",
                "context": "1M",
            },
        ),
    ],
)
def test_nothing_is_said_of_a_search_before_it_has_ended(opened, task, state):
    page = opened(task, wait=False, **state)
    page.add_init_script("")
    page.evaluate(
        """(none) => { window.seen = []; new MutationObserver(() => {
        const text = document.body.innerText;
        if (document.querySelector(".seeking") && text.includes(none)) window.seen.push(text);
        }).observe(document.body, { childList: true, subtree: true, characterData: true }); }""",
        NONE,
    )
    settled(page)
    assert page.evaluate("window.seen") == []
    open_settings(page)
    page.select_option("#set-method" if task == "train" else "#set-engine", index=1)
    settled(page)
    assert page.evaluate("window.seen") == []
    assert page.locator(".seeking").count() == 0
    if page.locator(".headline.no").count():
        assert page.locator(".remedies").count() or NONE in page.inner_text(".result")


WATCHED = """() => { window.seen = []; new MutationObserver(() => {
  for (const one of document.querySelectorAll(".answers .headline"))
    window.seen.push([one.className, Boolean(one.closest(".stale")), one.innerText]);
}).observe(document.body, { childList: true, subtree: true, attributes: true, characterData: true }); }"""


def test_there_is_never_a_red_answer_before_a_green_one(opened):
    page = opened("fit", wait=False)
    page.evaluate(WATCHED)
    page.fill("#model", LLAMA)
    page.fill("#set-gpu", "3060")
    page.keyboard.press("Enter")
    page.wait_for_selector(".headline")
    settled(page)
    page.fill("#set-context", "8192")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash.includes('8192')")
    settled(page)
    seen = page.evaluate("window.seen")
    assert {name for name, _, _ in seen} == {"headline yes"}
    assert len({text for _, _, text in seen}) == 2
    assert any(stale for _, stale, _ in seen)  # the last one stays, dimmed, until the next is known


def test_where_everything_fits_the_page_says_what_the_command_line_says(opened):
    page = opened("fit", model="qwen3-0.6b", gpu="h100")
    assert "with vLLM" in page.inner_text(".headline")
    assert "vllm serve Qwen/Qwen3-0.6B" in page.inner_text(".result")
    page = opened("train", model="qwen3-0.6b", gpu="h100", method="lora")
    assert page.locator(".headline.yes").count() == 1
    assert "LoraConfig" in page.inner_text(".result")


def test_the_bar_of_fit_is_that_of_its_plan(opened):
    page = opened("fit", model=LLAMA, gpu="3060")
    told = page.get_attribute(".filled .picture", "aria-label")
    form = weighbridge.fit(LLAMA, gpu="3060").plan.format
    page.locator(f"[data-rung='{form}'] .closer").click()
    settled(page)
    parts = page.locator(".parts > tbody").all_inner_texts()
    named = [text.split("GiB")[0].split() for text in parts if "GiB" in text]
    assert len(named) >= 2 and all(" ".join(words) in told for words in named)


@pytest.mark.parametrize(("lang", "words"), [("en", "Now name a card"), ("zh", "现在写出一张卡")])
def test_a_card_is_asked_for_calmly(opened, lang, words):
    page = opened("fit", model=LLAMA, lang=lang)
    assert page.inner_text('[data-setting="gpu"] .next').startswith(words)
    assert page.locator('[role="alert"]').count() == 0
    page.fill("#set-gpu", "4090")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator('[data-setting="gpu"] .next').count() == 0
    assert page.locator("[data-question]").count() == 3


def test_the_first_escape_closes_the_list_and_keeps_the_text(opened):
    page = opened("load", model=LLAMA)
    page.fill("#set-gpu", "3060")
    page.locator("#set-gpu-list [role=option]").first.wait_for()
    page.keyboard.press("Escape")
    assert not page.locator("#set-gpu-list").is_visible()
    assert page.input_value("#set-gpu") == "3060"
    page.keyboard.press("Escape")
    assert page.input_value("#set-gpu") == ""


def test_settings_of_a_link_that_nobody_knows_are_named(opened, address):
    page = opened(
        url=f"{address}#task=load&model={LLAMA}&quantisation=nf4&unit=parsec&gpu=4090&gpu=3060"
        "&%3Cb%3E=1&" + "&".join(f"odd{n}=1" for n in range(20))
    )
    told = page.inner_text(".strange")
    for part in ("quantisation", "unit=parsec", "gpu=3060", "<b>=1", "…"):
        assert part in told
    assert len(told) < 400
    page.fill("#set-quantization", "nf4")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator(".strange").count() == 0


def test_a_link_of_our_own_is_known(opened):
    page = opened("infer", model=LLAMA, gpu="4090", context="8192", unit="GiB", details="1")
    assert page.locator(".strange").count() == 0


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve Qwen/Qwen3-8B --max-model-len 32k",
        "$ CUDA_VISIBLE_DEVICES=0 python -m sglang.launch_server --model-path Qwen/Qwen3-8B",
    ],
)
def test_a_command_is_taken_where_a_model_was_expected(opened, command):
    page = opened("fit")
    page.fill("#model", command)
    page.keyboard.press("Enter")
    page.locator("#command").wait_for()
    assert state_of(page)["task"] == "infer"
    assert state_of(page)["command"] == command.removeprefix("$ ")


def test_a_change_says_what_it_costs_and_that_it_is_another_method(opened):
    page = opened("fit", model=LLAMA, gpu="3060")
    chips = page.locator('[data-question="full"] .offer').all_inner_texts()
    assert any("instead: qlora" in chip.lower() for chip in chips)
    assert not any(
        "instead" in t.lower()
        for t in page.locator('[data-question="qlora"] .offer').all_inner_texts()
    )
    prices = page.locator(".offer small").all_inner_texts()
    assert any("slower" in price for price in prices)


def test_an_empty_file_is_told(opened, tmp_path):
    (tmp_path / "empty.json").write_text("")
    page = opened("load")
    page.set_input_files("#file", tmp_path / "empty.json")
    page.wait_for_selector(".files .error")
    assert page.inner_text(".files .error") == "empty.json is empty."


def test_a_part_has_the_same_colour_on_every_tab(opened):
    beside = [f"model={LLAMA}&gpu=4090&context={context}" for context in ("131072", "4096")]
    page = opened("compare", of="infer", **{"with": beside[0]})
    compared = colours(page)
    page.goto(page.url.partition("#")[0] + f"#task=infer&model={LLAMA}&gpu=4090&context=32768")
    page.wait_for_selector(".weighed")
    settled(page)
    served = colours(page)
    page.goto(page.url.partition("#")[0] + f"#task=train&model={LLAMA}&gpu=4090&method=lora")
    page.wait_for_selector(".of-train .weighed")
    settled(page)
    trained = colours(page)
    assert compared["KV cache"] == served["KV cache"]
    assert compared["activations"] == served["activations"] == trained["activations"]


def colours(page):
    """The class of each part's swatch, by its name."""
    found = page.evaluate(
        """[...document.querySelectorAll(".parts th, .legend li")].filter((e) => e.querySelector("rect"))
        .map((e) => [e.innerText.trim(), e.querySelector("rect").getAttribute("class")])"""
    )
    return dict(found)
