"""A row of a change that makes it fit: what it costs, and the memory that it moves to the machine."""

import pytest

import weighbridge
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions

ASKED = {
    "framework": "trl", "method": "full", "gpu": "h100:8", "shard": "zero3", "ram": "2TB",
    "seq_len": 2048, "offline": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def sharded():
    return weighbridge.train("qwen2.5-32b", **ASKED)


@pytest.mark.slow
def test_a_remedy_says_what_the_machine_needs_then(sharded):
    """It is the answer of the question with the change."""
    (moved,) = (r for r in sharded.remedies if dict(r.change) == {"offload": "optimizer"})
    again = weighbridge.train("qwen2.5-32b", **ASKED, offload="optimizer")
    assert moved.host == again.verdict.host.needed
    assert moved.host.expected > sharded.verdict.host.needed.expected + 400 * 2**30
    told = sharded.to_dict()["remedies"]
    assert [r["host"]["expected"] for r in told if r["change"] == {"offload": "optimizer"}] == [
        moved.host.expected
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("lang", "said"), [("en", " of RAM)"), ("zh", "内存 ")])
def test_a_row_says_the_ram_that_a_change_takes(sharded, lang, said):
    """Others, which leave the machine as it is, say nothing of it."""
    text = render(sharded, "human", RenderOptions(lang=lang))
    those = [line for line in text.splitlines() if line.strip()[:1] in "✓?" and " --" in line]
    assert [said in line for line in those] == ["--offload" in line for line in those]
    assert sum("--offload" in line for line in those) == 1
