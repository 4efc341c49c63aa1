"""Pictures of the page for the docs: python -m tools.pictures (needs [test-web] and chromium)."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

DOCS = Path(__file__).parent.parent / "docs"
PATIENCE = 180_000  # milliseconds


class Picture(NamedTuple):
    """One picture: its file, what is asked, and on what screen."""

    name: str
    state: dict[str, str]
    size: tuple[int, int] = (1180, 820)
    dark: bool = False


PICTURES = (
    Picture("page-fit", {"task": "fit", "model": "llama-3.1-8b", "gpu": "4090"}),
    Picture(
        "page-serve",
        {"task": "infer", "model": "llama-3.1-8b", "gpu": "4090", "engine": "vllm"}
        | {"context": "32768"},
    ),
    Picture(
        "page-train",
        {"task": "train", "model": "llama-3.1-8b", "gpu": "4090", "method": "lora"},
        size=(1180, 900),
        dark=True,
    ),
    Picture(
        "page-phone",
        {"task": "infer", "model": "qwen3-8b", "gpu": "4090", "engine": "vllm", "lang": "zh"},
        size=(360, 740),
    ),
)


def main() -> None:
    from playwright.sync_api import sync_playwright

    with served() as address, sync_playwright() as engine:
        chromium = shutil.which("chromium")
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for picture in PICTURES:
            taken(browser, address, picture)
        browser.close()


@contextmanager
def served() -> Iterator[str]:
    command = [sys.executable, "-m", "weighbridge", "web", "--port", "0", "--no-open", "--offline"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


def taken(browser: Any, address: str, picture: Picture) -> None:
    wide, high = picture.size
    context = browser.new_context(
        viewport={"width": wide, "height": high},
        color_scheme="dark" if picture.dark else "light",
        locale="en-US",
    )
    page = context.new_page()
    page.goto(f"{address}#{urlencode(picture.state)}")
    page.wait_for_selector('.answers[data-settled="true"]', timeout=PATIENCE)
    place = DOCS / f"{picture.name}.png"
    page.screenshot(path=place)
    print(f"{place.name}: {place.stat().st_size:,} bytes")
    context.close()


if __name__ == "__main__":
    main()
