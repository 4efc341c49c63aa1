"""An address is a question, whenever it moves."""

from tests.browser.conftest import PATIENCE, settled, state_of

ASKED = "#task=load&model=qwen3-0.6b"
BEFORE_LISTENING = """
const listen = window.addEventListener;
window.addEventListener = function (name, ...rest) {
  if (name === "hashchange") history.replaceState(null, "", "%s");
  return listen.call(window, name, ...rest);
};"""
WRITTEN_OVER = """(asked) => {
  const before = location.hash;
  location.hash = asked;
  history.replaceState(null, "", before);
}"""


def test_an_address_that_moves_before_the_page_listens_is_asked(browser, address):
    made = browser.new_context(locale="en-US")
    made.set_default_timeout(PATIENCE)
    made.add_init_script(BEFORE_LISTENING % ASKED)
    page = made.new_page()
    page.goto(f"{address}#task=load&model=llama-3.1-8b")
    settled(page)
    assert state_of(page)["model"] == "qwen3-0.6b"
    made.close()


def test_an_address_is_asked_though_the_question_before_was_written_over_it(opened):
    page = opened("load", model="llama-3.1-8b")
    page.evaluate(WRITTEN_OVER, ASKED)
    page.wait_for_function("() => location.hash.includes('qwen3-0.6b')")
    settled(page)
    assert state_of(page)["model"] == "qwen3-0.6b"


def test_an_address_that_names_a_pipeline_as_a_model_has_its_answer(browser, address):
    made = browser.new_context(locale="en-US")
    made.set_default_timeout(PATIENCE)
    page = made.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(error))
    page.goto(f"{address}#task=fit&model=flux.1-dev&gpu=3060&ram=32GiB")
    settled(page)
    assert "Yes on RTX 3060 12GB" in page.inner_text(".answer .verdict")
    assert state_of(page)["task"] == "image"
    assert faults == []
    made.close()
