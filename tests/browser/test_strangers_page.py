"""What strangers wrote shows as text; the Hub, its gates, and files that are dropped."""

import json

import pytest

from tests.browser.conftest import TINY, TOKEN, open_settings, settled, state_of, verdict
from tests.sparse import write_safetensors

HOSTILE = '<img src=x onerror="document.title=`owned`"><script>document.title="owned"</script>'


def test_a_hostile_name_shows_as_text(opened):
    page = opened("load", model=HOSTILE)
    assert "<img" in page.inner_text(".problem")
    assert page.locator(".problem img, .problem script").count() == 0
    assert page.title() == "weighbridge"


def test_hostile_settings_in_a_link(opened):
    page = opened(
        "infer", model="llama-3.1-8b", gpu=HOSTILE, engine='"><svg onload=alert(1)>', __proto__="x"
    )
    assert page.locator(".problem").count() == 1
    assert page.locator("svg[onload], img[src=x]").count() == 0


def test_a_model_of_the_hub(opened, hub):
    page = opened("load", model="org/tiny", gpu="3060")
    assert "fits" in verdict(page)
    assert "org/tiny" in page.inner_text("h2#answer")
    assert hub.asked("org/tiny")


def test_a_missing_model_is_one_line(opened):
    page = opened("load", model="org/nothing")
    told = page.inner_text(".problem")
    assert "org/nothing" in told and "\n" not in told.strip()


def test_a_gated_model_needs_a_token_that_nobody_keeps(opened, hub):
    page = opened("load", model="org/gated", gpu="3060")
    assert "gated" in page.inner_text(".problem")
    page.wait_for_selector("#token")  # the box opens by itself
    asked = []
    page.on("request", lambda request: asked.append(request))
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(".headline")
    settled(page)
    assert "fits" in verdict(page)
    assert any(TOKEN in (request.token or "") for request in hub.requests)
    assert TOKEN not in page.url and all(TOKEN not in request.url for request in asked)
    assert TOKEN not in page.content()
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert TOKEN not in page.evaluate(stored)


def test_a_token_is_kept_where_the_user_says_so(opened):
    page = opened("load", model="llama-3.1-8b")
    page.click("details.token summary")
    page.fill("#token", TOKEN)
    page.check("#token-keep")
    page.reload()
    settled(page)
    open_settings(page)
    page.click("details.token summary")
    assert page.input_value("#token") == TOKEN
    page.uncheck("#token-keep")
    assert TOKEN not in page.evaluate("JSON.stringify({...localStorage})")


def drop(page, name, text):
    """Drops a file on the page, as a hand does."""
    page.evaluate(
        """([name, text]) => {
          const data = new DataTransfer();
          data.items.add(new File([text], name));
          document.querySelector(".page").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [name, text],
    )


def test_a_dropped_config(opened):
    page = opened("load", gpu="3060")
    drop(page, "config.json", json.dumps(TINY))
    page.wait_for_selector(".headline")
    settled(page)
    assert "fits" in verdict(page)
    assert state_of(page)["file"] == "config.json" and "model" not in state_of(page)
    page.click("#export")
    with page.expect_download() as saved:
        page.click("[data-form=json]")
    assert '"LlamaForCausalLM"' in saved.value.path().read_text()
    page.goto(page.url.partition("#")[0] + "#task=load&model=llama-3.1-8b")
    page.wait_for_selector("h2#answer:has-text('llama-3.1-8b')")  # the file is let go


def test_only_the_header_of_a_file_is_sent(opened, tmp_path):
    tensors = {f"model.layers.{i}.{'x' * 200}.weight": ("BF16", (64, 64)) for i in range(8_000)}
    size = write_safetensors(tmp_path / "big.safetensors", tensors)
    page = opened("load", gpu="3060")
    sent = []
    page.on(
        "request", lambda r: sent.append(len(r.post_data_buffer)) if r.method == "POST" else None
    )
    page.set_input_files("#file", tmp_path / "big.safetensors")
    page.wait_for_selector(".headline")
    settled(page)
    assert len(sent) == 2  # a first piece, then the whole of a long header
    assert max(sent) < size / 4


def test_a_file_that_a_link_names_is_asked_for(opened):
    page = opened("load", file="mine.gguf")
    assert "mine.gguf" in page.inner_text(".model .error")


def test_dropped_requests(opened):
    page = opened()
    line = {"task": "infer", "model": "llama-3.1-8b", "workload": {"gpu": "4090", "engine": "vllm"}}
    drop(page, "run.jsonl", json.dumps(line))
    page.wait_for_selector(".headline")
    settled(page)
    assert state_of(page)["engine"] == "vllm" and "fits" in verdict(page)
    other = {**line, "model": "qwen3-0.6b"}
    drop(page, "run.jsonl", "\n".join(map(json.dumps, (line, other))))
    page.wait_for_selector(".side")
    settled(page)
    assert page.locator(".side").count() == 2


AXOLOTL = """\
base_model: llama-3.1-8b
adapter: lora
lora_r: 16
sequence_len: 4096
micro_batch_size: 2
strange: 1
"""


def test_a_file_that_starts_a_run_fills_the_form(opened):
    page = opened("load", gpu="4090")
    drop(page, "run.yaml", AXOLOTL)
    page.wait_for_selector("#file-notes")
    settled(page)
    state = state_of(page)
    assert state["framework"] == "axolotl" and state["seq_len"] == "4096"
    assert state["gpu"] == "4090"  # which the file does not say
    assert "strange" in page.inner_text("#file-notes")
    assert "fit" in verdict(page)


def test_a_config_that_is_pasted_as_the_model_fills_the_form(opened):
    page = opened("load", gpu="4090")
    page.focus("#model")
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.setData("text", text);
            const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            document.querySelector("#model").dispatchEvent(paste);
        }""",
        AXOLOTL,
    )
    page.wait_for_selector("#file-notes")
    settled(page)
    assert state_of(page)["framework"] == "axolotl"


@pytest.mark.parametrize("text", ["not JSON", "[1, 2]", "{", '{"task": "infer", "model": 7}'])
def test_a_file_that_nobody_can_read(opened, text):
    page = opened("load")
    drop(page, "<b>odd</b>.json", text)
    page.wait_for_selector(".files .error")
    assert "<b>odd</b>.json" in page.inner_text(".files .error")


def test_a_server_that_has_ended(opened):
    page = opened("infer", model="llama-3.1-8b", gpu="4090")
    page.route("**/ask", lambda route: route.fulfill(body="gone"))
    page.fill("#set-context", "8192")
    page.keyboard.press("Enter")
    page.wait_for_selector(".problem")
    assert "still running" in page.inner_text(".problem")
    page.unroute("**/ask")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".headline")
    settled(page)
    assert "8,192" in page.inner_text("h2#answer")
