"""Near spellings are found in one place, by one measure."""

from pathlib import Path

import weighbridge
from tests.cases import all_of
from weighbridge.base.wording import spelled_like

HERE = Path(weighbridge.__file__).parent


def test_only_one_module_compares_spellings():
    users = [p for p in HERE.rglob("*.py") if "get_close_matches" in p.read_text("utf-8")]
    assert [p.relative_to(HERE).as_posix() for p in users] == ["base/wording.py"]


@all_of(
    ("name", "known", "near"),
    [
        ("vlm", ("vllm", "sglang", "mlx"), ["vllm"]),
        ("qllora", ("lora", "qlora", "full"), ["qlora"]),
        ("hydrogen", ("vllm", "sglang"), []),
        ("x" * 10_000 + "vllm", ("vllm",), []),  # no more than a name's length is looked at
    ],
)
def test_the_nearest_comes_first(name, known, near):
    assert spelled_like(name, known) == near
    assert spelled_like(name, known, 3)[:1] == near
