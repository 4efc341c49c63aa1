"""The table of components says which moment it is of, in every form that people read."""

import pytest

import weighbridge
from weighbridge.render.markdown import markdown

ASKED = [
    (weighbridge.load, {}, "phase load on the device"),
    (weighbridge.infer, {}, "phase prefill on the device, the fullest of 3 phases"),
    (weighbridge.train, {"seq_len": 64}, "phase step on the device, the fullest of 5 phases"),
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
    shown = next(d for d in report.devices if f"phase {d.peak_phase} " in markdown(report))
    assert shown is not None
    for text in (str(report), markdown(report), report._repr_html_()):
        assert told in text
