"""The tab of a dataset: its rows are those of `weighbridge scan query`, read by ranges, as text."""

import re
import subprocess
import sys

import pytest

from tests.browser.conftest import settled, state_of
from tests.scan.published import GROUP, HOSTILE, NAMES, published

COUNT = "#registry-count"
ROWS = ".registry tbody tr"
PARQUET = re.compile(r"registry/(\w+)\.parquet$")
GIB = 2**30


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    for name in ("pyarrow", "duckdb"):
        pytest.importorskip(name, reason="needs weighbridge[test-scan]")
    return published(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def address(whole):
    """The page as `weighbridge web --registry` serves it."""
    command = [sys.executable, "-m", "weighbridge", "web", "--port", "0", "--no-open"]
    with subprocess.Popen(
        [*command, "--registry", str(whole[2])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture
def registry(opened):
    """registry(**filters): the tab, with all models read."""

    def open_(**filters):
        page = opened("registry", **filters)
        if page.locator("#registry-all").count():
            page.click("#registry-all")
            page.wait_for_selector("#registry-all", state="detached")
            settled(page)
        return page

    return open_


def rows(page):
    """The cells of each row."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".registry tbody tr")].map((row) =>
          [...row.cells].map((cell) => cell.innerText.trim()))"""
    )


def ids(page):
    return [row[0] for row in rows(page)]


def asked(whole, sql):
    from weighbridge.faces.scan.query import ScanView

    out, plan, _ = whole
    return ScanView(out, plan).ask(sql).rows


def test_rows_are_those_of_a_query(registry, whole):
    page = registry(question="vllm", gpu="4090")
    summary = asked(
        whole,
        "select m.id, coalesce(m.unread, w.reason, k.reason), w.fits, w.need, k.parameters from models m"
        " left join (select * from answers where question = 'vllm/4090') w using (key)"
        " left join (select * from answers where question = 'model') k using (key)"
        " order by m.downloads desc nulls last, k.parameters desc nulls last, m.id",
    )
    assert len(summary) == len(NAMES) + 3
    signs = {"yes": "✓", "no": "✗", "unknown": "?"}
    for cells, (name, reason, fits, need, parameters) in zip(rows(page), summary, strict=True):
        assert cells[0] == name
        if need is None:
            assert cells[1] == reason
        else:
            assert cells[1].startswith(f"{signs[fits]} {need / GIB:,.1f} GiB")
            assert (
                cells[3] == f"{parameters / 1e9:.3g} B" or cells[3] == f"{parameters / 1e6:.3g} M"
            )


@pytest.mark.parametrize("fits", ["yes", "no"])
def test_a_filter_leaves_the_models_of_its_verdict(registry, whole, fits):
    page = registry(question="vllm", gpu="4090", fits=fits)
    sql = f"select id from weighed where question = 'vllm/4090' and fits = '{fits}'"
    assert set(ids(page)) == {row[0] for row in asked(whole, sql)} != set()
    assert f"{len(ids(page))} models" in page.inner_text(COUNT)


def test_a_search_takes_every_word_in_any_case(registry):
    page = registry()
    page.fill("#registry-pattern", "QWEN3 32b")
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length === 1")
    assert ids(page) == ["org/qwen3-32b"]
    assert state_of(page)["id"] == "QWEN3 32b"
    page.fill("#registry-pattern", "nothing has this name")
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length === 0")
    assert page.inner_text(COUNT) == "0 models"


def test_columns_sort_by_keyboard_and_a_third_press_takes_the_order_back(registry, whole):
    page = registry(question="vllm", gpu="h100")
    before = ids(page)
    sql = "select id from weighed where question = 'vllm/h100' and need is not null order by need, downloads desc nulls last"
    least = [row[0] for row in asked(whole, sql)]
    head = page.locator(".registry th button", has_text="Needs")
    head.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector('.registry th[aria-sort="ascending"]')
    assert ids(page)[: len(least)] == least
    page.keyboard.press("Enter")
    page.wait_for_selector('.registry th[aria-sort="descending"]')
    assert ids(page)[0] == least[-1]
    page.keyboard.press("Enter")
    page.wait_for_selector(".registry th[aria-sort]", state="detached")
    assert ids(page) == before


def test_what_fits_mine_and_the_smallest_card(registry):
    page = registry(question="vllm", gpu="4090")
    page.click("#registry-mine")
    page.wait_for_function("() => location.hash.includes('fits=yes')")
    found = rows(page)
    assert found[0][0] in ("org/llama-3.1-8b", HOSTILE, "org/gpt-oss-20b")
    assert all(cells[1].startswith("✓") and cells[2] == "GeForce RTX 4090" for cells in found)
    page.select_option("#registry-card", "h100")
    page.wait_for_function("() => location.hash.includes('gpu=h100')")
    settled(page)
    assert ids(page)[0] == "org/qwen3-32b"
    assert rows(page)[0][2] == "H100 SXM5 80GB"


def test_a_card_is_known_as_people_write_it(registry):
    page = registry(gpu="RTX 4090")
    assert page.input_value("#registry-card") == "4090"
    assert page.locator(".filters .error").count() == 0


def test_a_card_that_nobody_asked_about_is_told(registry):
    page = registry(gpu="t4")
    assert "t4 is not among the cards" in page.inner_text(".filters")


def test_a_name_opens_the_question_itself(registry):
    page = registry(question="vllm", gpu="4090", id="llama-3.1-8b")
    page.evaluate(
        "document.querySelector('.registry tbody a').hash = document.querySelector('.registry tbody a').hash.replace('org%2F', '')"
    )
    page.click(".registry tbody a")
    page.wait_for_selector(".headline")
    said = state_of(page)
    assert (said["task"], said["engine"], said["gpu"], said["context"]) == (
        "infer",
        "vllm",
        "4090",
        "8192",
    )
    page.go_back()
    page.wait_for_selector(ROWS)


def test_whatever_a_dataset_says_is_text(registry):
    page = registry(id="img")
    assert ids(page) == [HOSTILE]
    assert f"models of a {HOSTILE}" in page.inner_text(".told-of")
    assert page.locator(".registry img").count() == 0
    assert page.title() == "weighbridge"
    page = registry(gpu=HOSTILE, question=HOSTILE, by=HOSTILE, fits=HOSTILE)
    assert len(ids(page)) == len(NAMES) + 3
    assert page.locator(".registry img").count() == 0


def test_the_first_view_reads_ranges_and_few_models(opened, whole):
    page = opened("registry")
    replies = []
    page.on("response", lambda reply: replies.append(reply) if PARQUET.search(reply.url) else None)
    page.reload()
    settled(page)
    assert replies and all(reply.status == 206 for reply in replies)
    taken = {}
    for reply in replies:
        name = PARQUET.search(reply.url)[1]
        taken[name] = taken.get(name, 0) + int(reply.headers["content-length"])
    assert taken.keys() == {"models", "keys", "answers"}
    for name, nbytes in taken.items():
        assert nbytes < (whole[2] / f"{name}.parquet").stat().st_size, name
    assert len(ids(page)) == GROUP
    assert f"first {GROUP} of {len(NAMES) + 3} models" in page.inner_text(".further")
    page.click("#registry-further")
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length > 4")
    settled(page)  # groups are drawn as they come
    assert len(ids(page)) == len(NAMES) + 3


def test_a_search_finds_models_that_were_not_read(opened, whole):
    page = opened("registry")
    assert "org/gpt-oss-20b" not in ids(page) and len(ids(page)) == GROUP
    asked_for = []
    page.on("request", lambda request: asked_for.append(request.url))
    page.fill("#registry-pattern", "GPT-Oss 20b")
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length === 1")
    settled(page)
    assert ids(page) == ["org/gpt-oss-20b"]
    assert rows(page)[0][1].startswith(("✓", "✗", "?"))
    assert "1 have such words" in page.inner_text("#registry-found")
    assert {PARQUET.search(url)[1] for url in asked_for if PARQUET.search(url)} == {
        *("names", "models")
    }
    assert f"first {GROUP} of" in page.inner_text(".further")  # nothing else was read
    page.fill("#registry-pattern", "org")  # those that were read, and those behind them, in order
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length > 4")
    settled(page)
    sql = "select id from models where id like 'org/%' order by downloads desc nulls last, id"
    assert ids(page) == [row[0] for row in asked(whole, sql)]
    page.fill("#registry-pattern", "ss-20b")  # a word is found by how it begins
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length === 1")
    page.fill("#registry-pattern", "")
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length === 4")
    assert page.locator("#registry-found").count() == 0


def test_models_that_a_search_found_are_there_once_when_all_are_read(opened, whole):
    page = opened("registry", id="mistral")
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length === 1")
    assert ids(page) == ["org/mistral-7b-v0.3"]
    page.click("#registry-all")
    page.wait_for_selector("#registry-all", state="detached")
    settled(page)
    assert ids(page) == ["org/mistral-7b-v0.3"]
    page.fill("#registry-pattern", "")
    page.wait_for_function("() => document.querySelectorAll('.registry tbody tr').length > 4")
    assert len(ids(page)) == len(set(ids(page))) == len(NAMES) + 3


def test_a_dataset_that_is_replaced_meanwhile_says_so(opened):
    page = opened("registry")
    page.route(
        PARQUET,
        lambda route: route.fulfill(
            status=206, body=b"x", headers={"Content-Range": "bytes 0-0/7"}
        ),
    )
    page.reload()
    settled(page)
    assert "was replaced meanwhile" in page.inner_text(".problem")


def test_a_dataset_of_another_release_says_so(opened):
    page = opened("registry")
    page.route(
        "**/registry.json", lambda route: route.fulfill(body='{"schema": "weighbridge.registry/9"}')
    )
    page.reload()
    settled(page)
    assert "another release" in page.inner_text(".problem")
    page.unroute("**/registry.json")
    page.click(".problem button")
    page.wait_for_selector(ROWS)
