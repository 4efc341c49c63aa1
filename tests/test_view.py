"""Laws of the screens: what every one of them keeps, whatever was asked."""

import pytest

import weighbridge
from weighbridge.render import Look, draw
from weighbridge.render.drawing import cells
from weighbridge.view import screen
from weighbridge.view.records import Bar, Grid, Headline, Paste

ASKED = (
    ("load", "llama-3.1-8b", {"gpu": "3060"}),
    ("load", "llama-3.1-70b", {"gpu": "4090:2"}),
    ("load", "qwen3-0.6b", {}),
    ("infer", "llama-3.1-8b", {"engine": "vllm", "gpu": "4090", "context": 32768}),
    ("infer", "mixtral-8x7b", {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "3090"}),
    ("infer", "7B", {"gpu": "4090"}),
    ("train", "llama-3.1-8b", {"method": "qlora", "checkpointing": "full", "gpu": "3060"}),
    ("train", "qwen3-0.6b", {"shard": "fsdp2", "gpu": "4090:4"}),
)


@pytest.fixture(scope="module", params=ASKED, ids=lambda a: " ".join(map(str, a)))
def report(request):
    task, model, settings = request.param
    return getattr(weighbridge, task)(model, **settings)


def bars(found):
    return [b for b in found.blocks if isinstance(b, Bar)]


def test_segments_add_up_to_the_bar(report):
    for bar in bars(screen(report)):
        assert sum(part.nbytes for part in bar.segments) == bar.total == report.peak.expected or (
            report.verdict is not None and bar.total == report.verdict.per_device.expected
        )


def test_at_most_five_components(report):
    assert all(1 <= len(bar.segments) <= 5 for bar in bars(screen(report)))


def test_the_headline_is_the_verdict(report):
    (head,) = (b for b in screen(report).blocks if isinstance(b, Headline))
    if report.verdict is None:
        assert head.mark is None
    else:
        assert head.mark == report.verdict.fits or (head.mark, report.verdict.fits) == (
            "tight",
            "yes",
        )
        assert head.has == report.verdict.usable_bytes


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(report, width):
    found = screen(report)
    pasted = {b.text for b in found.blocks if isinstance(b, Paste)}
    assert not any(b.wide for b in found.blocks if isinstance(b, Grid))
    for line in draw(found, "human", Look(width=width)).splitlines():
        assert cells(line) <= width or line.strip() in pasted, line
