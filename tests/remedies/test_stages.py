"""Uneven stages as a remedy of pipelines that are not Megatron's."""

import pytest

import weighbridge

ASKED = {
    "framework": "torchtitan",
    "gpu": "h100:4",
    "gpu_memory": "56GiB",
    "pipeline_parallel_size": 4,
    "gradient_accumulation": 8,
    "seq_len": 4096,
    "checkpointing": "full",
}


def stages(**more):
    report = weighbridge.train("llama-3.1-8b", **{**ASKED, **more})
    return report, [r for r in report.remedies if "pp_layer_partition" in r.change]


@pytest.mark.slow
def test_the_fullest_stage_gives_layers_to_those_that_take_least():
    report, found = stages()
    assert (report.derived["stage_layers"], report.derived["fullest_stage"]) == ([8, 9, 8, 7], 0)
    assert [list(r.change["pp_layer_partition"]) for r in found] == [[7, 9, 9, 7]]
    again, _ = stages(pp_layer_partition=found[0].change["pp_layer_partition"])
    assert again.peak.expected == found[0].peak_bytes < report.peak.expected
    assert again.verdict.fits == "yes"


@pytest.mark.slow
def test_stages_that_were_named_are_changed_where_they_alone_do_not_fit():
    report, found = stages(pp_layer_partition=(8, 9, 8, 7))
    assert found == [report.remedies[0]]
    assert list(found[0].change["pp_layer_partition"]) == [7, 9, 9, 7]
