"""A newer question ends the search for what helps the older one."""

from tests.browser.conftest import settled, state_of

# The longest search of the page that comes step by step: four steps, a second of the processor
SLOW = {"task": "train", "method": "lora", "model": "qwen2.5-32b", "gpu": "4090:2"}
WATCH = """() => {
  const asked = fetch;
  window.ended = [];
  window.asked = 0;
  window.fetch = (to, init) => {
    const search = !String(init.body).includes('"remedies":false');
    window.asked += search;
    if (search) init.signal.addEventListener("abort", () => ended.push(performance.now()));
    return asked(to, init);
  };
}"""
MOVE = """(name) => {
  const box = document.querySelector(`[data-setting=${name}] input[type=range]`);
  box.value = String(Number(box.value) + 1);
  box.dispatchEvent(new Event("input", { bubbles: true }));
}"""


def watched(opened, given):
    """A page whose search for what helps is under way."""
    page = opened()
    page.evaluate(WATCH)
    page.evaluate(
        "(given) => { location.hash = String(new URLSearchParams(given)); }",
        given,
    )
    page.wait_for_function("() => asked")
    return page


def test_a_newer_question_ends_the_search(opened):
    page = watched(opened, SLOW)
    assert page.evaluate("ended.length") == 0
    page.evaluate(MOVE, "seq_len")
    page.wait_for_function("() => ended.length")
    length = int(state_of(page)["seq_len"])
    assert length == 2560
    told = "(text) => document.querySelector('h2#answer').innerText.includes(text)"
    page.wait_for_function(told, arg=f"{length:,}")
    assert page.locator(".problem").count() == 0


SEEN = """() => {
  window.seen = [];
  const look = () => {
    const result = document.querySelector(".answers > div > .result");
    if (!result) return;
    seen.push({
      title: result.querySelector("h2").innerText,
      verdict: result.querySelector(".headline .verdict")?.innerText ?? "",
      remedies: [...result.querySelectorAll(".remedy .what")].map((one) => one.innerText),
      seeking: Boolean(result.querySelector(".seeking")),
    });
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def seen(page):
    """What stood there, each state once after the other."""
    found = page.evaluate("seen")
    return [now for before, now in zip([None, *found], found, strict=False) if now != before]


def test_remedies_come_one_by_one_and_none_of_an_older_question(opened):
    page = opened(wait=False)
    page.evaluate(SEEN)
    page.evaluate("(given) => { location.hash = String(new URLSearchParams(given)); }", SLOW)
    page.wait_for_function("() => seen.some((one) => one.seeking)")  # not the first question's
    settled(page)
    states = seen(page)
    known = [len(state["remedies"]) for state in states if state["seeking"]]
    assert known[0] == 0 and known == sorted(known) and len(set(known)) > 2
    assert not states[-1]["seeking"]
    whole = states[-1]["remedies"]
    page.evaluate("seen.length = 0")
    page.evaluate(MOVE, "seq_len")
    settled(page)
    newer = [state for state in seen(page) if state["title"] != states[-1]["title"]]
    assert newer[0]["remedies"] == [] and newer[0]["seeking"]
    page.evaluate("(given) => { location.hash = String(new URLSearchParams(given)); }", SLOW)
    page.wait_for_function("(title) => seen.at(-1).title === title", arg=states[-1]["title"])
    settled(page)
    assert seen(page)[-1]["remedies"] == whole


def test_a_long_run_has_a_first_estimate_and_no_verdict_until_it_is_run(opened):
    page = opened(wait=False)
    page.evaluate(SEEN)
    given = {**SLOW, "gpu": "3060", "model": "olmoe-1b-7b", "engine_version": "4.57"}
    page.evaluate("(given) => { location.hash = String(new URLSearchParams(given)); }", given)
    page.wait_for_function("() => seen.some((one) => one.verdict.includes('fit'))")
    first, *later = [state["verdict"] for state in seen(page) if state["verdict"]]
    assert first.startswith("at least ")
    assert "at least" not in later[-1]
