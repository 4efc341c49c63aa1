"""The table of components says which moment it is of, in every form that people read."""

import pytest

import weighbridge
from tests.told import full
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions

ASKED = [
    (weighbridge.load, {}, "phase load on the device"),
    (weighbridge.infer, {}, "phase prefill on the device, the fullest of 3 phases"),
    (weighbridge.train, {"seq_len": 64}, "phase backward on the device, the fullest of 5 phases"),
    (
        weighbridge.train,
        {"seq_len": 64, "gpu": "h100:2"},
        "on the fullest device, the fullest of 5 phases",
    ),
    (
        weighbridge.infer,
        {"engine": "llama.cpp", "n_gpu_layers": 0, "no_kv_offload": True},
        "on the host, the fullest of 3 phases",
    ),
]


@pytest.mark.parametrize(("ask", "settings", "told"), ASKED)
def test_the_table_names_its_phase(ask, settings, told):
    report = ask("llama-3.2-1b", **settings)
    page = render(report, "markdown", RenderOptions(details=True))
    assert any(f"phase {d.peak_phase} " in page for d in report.devices)
    for text in (full(report), page, render(report, "html", RenderOptions(details=True))):
        assert told in text
