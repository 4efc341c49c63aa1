"""A pipeline that ran out of memory: its own ladder, in the dtype that the message shows."""

import pytest

import weighbridge

LINE = (
    'pipe.to("cuda")\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate {size} MiB. '
    "GPU 0 has a total capacity of 23.54 GiB of which 40.25 MiB is free. Of the allocated memory "
    "23.10 GiB is allocated by PyTorch, and 12.34 MiB is reserved by PyTorch but unallocated."
)
GIB = 1 << 30


@pytest.mark.slow
@pytest.mark.parametrize(("size", "gib"), [("72.00", 31.4), ("144.00", 62.9)])
def test_the_dtype_is_that_of_the_weight_that_was_asked_for(size, gib):
    """12,288 x 3,072 numbers of FLUX's feed-forward are 72 MiB in 2 bytes, and 144 in 4."""
    oom = weighbridge.explain_oom(LINE.format(size=size), "flux.1-dev", gpu="4090")
    weights = oom.estimate.fullest.phases[-1].of("weights").expected
    assert weights == pytest.approx(gib * GIB, rel=0.01)
    assert oom.judged.cause == "weights_too_big"


@pytest.mark.slow
def test_what_to_change_is_of_the_pipelines_ladder():
    oom = weighbridge.explain_oom(LINE.format(size="72.00"), "flux.1-dev", gpu="4090")
    first, *_ = oom.remedies
    assert first.fits == "yes" and first.change["offload"] == "model"
    lines = "\n".join(one.paste for one in oom.remedies)
    assert "device_map" not in lines and "pipe.enable_model_cpu_offload()" in lines
