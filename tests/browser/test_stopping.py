"""A newer question ends the search for what helps the older one."""

from tests.browser.conftest import state_of

SLOW = {"task": "train", "method": "lora", "model": "llama-3.1-8b", "gpu": "3060"}
WATCH = """() => {
  const asked = fetch;
  window.ended = [];
  window.fetch = (to, init) => {
    const search = !String(init.body).includes('"remedies":false');
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
    page.wait_for_selector(".seeking")
    page.wait_for_timeout(400)  # until the search has been asked for
    return page


def test_a_newer_question_ends_the_search(opened):
    page = watched(opened, SLOW)
    assert page.evaluate("ended.length") == 0
    page.evaluate(MOVE, "seq_len")
    page.wait_for_function("() => ended.length")
    length = int(state_of(page)["seq_len"])
    assert length == 2560
    told = "(text) => document.querySelector('.result > h2').innerText.includes(text)"
    page.wait_for_function(told, arg=f"{length:,}")
    assert page.locator(".problem").count() == 0
