"""The tab of pictures and video: a pipeline, its stages, and what would make it fit."""

import pytest

from tests.browser.conftest import settled, state_of

FLUX = "flux.1-dev"


@pytest.fixture
def images(opened):
    return opened("image", model=FLUX, gpu="3060")


def test_a_pipeline_is_found_and_no_language_model_is(opened):
    page = opened("image")
    page.fill("#model", "flux.1 dev")
    options = page.locator("#model-list [role=option]")
    options.first.wait_for()
    assert FLUX in options.first.inner_text()
    options.first.click()
    settled(page)
    assert state_of(page)["model"] == FLUX
    page.fill("#model", "llama-3.1")
    assert page.locator("#model-list [role=option]").count() == 0


def test_stages_are_drawn_with_their_table(images):
    assert "as it was asked: 36.6 GiB" in images.inner_text(".headline")  # a way is there
    way = images.get_attribute(".filled .picture", "aria-label")
    assert "weights" in way and images.locator(".rows").count() == 0  # stages are of what was asked
    components = images.locator("table.grid tbody tr").all_inner_texts()
    assert any("transformer" in one and "32.8" in one for one in components)
    assert "weighbridge fit flux.1-dev --gpu 3060" in images.locator(".paste").all_inner_texts()[-1]


def test_a_step_of_the_ladder_changes_the_answer(images):
    before = images.inner_text(".headline .figures, .headline")
    rows = images.locator("table.grid tr", has_text="GGUF Q4_K_S")
    rows.get_by_role("button").click()
    settled(images)
    assert images.locator(".headline .sign.yes").count() == 1
    assert images.inner_text(".headline") != before
    assert state_of(images) | {"lang": ""} == {
        "task": "image",
        "model": FLUX,
        "gpu": "3060",
        "offload": "model",
        "quantization": "Q4_K_S",
        "lang": "",
    }
    assert "enable_model_cpu_offload()" in images.inner_text(".result")


def test_a_pipeline_goes_to_its_own_tab_and_a_model_stays_behind(opened):
    page = opened("infer", model=FLUX, gpu="3060")
    assert state_of(page)["task"] == "image"
    page.click("#tab-train")
    page.wait_for_selector(".welcome")
    assert "model" not in state_of(page)
