"""Names and paths of models on launch lines."""

import pytest

from weighbridge.engines.launch.paths import packed


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", "nvfp4"),  # its owner's name before it
        ("/models/Nobodys-9B-AWQ", "awq"),
        ("nobody/nobodys-9b-Q4_K_M", "Q4_K_M"),
        ("nobody/nobodys-9b", ""),
        ("nobody/nobodys-9b-BF16", ""),  # which is how it is published
    ],
)
def test_the_format_at_the_end_of_a_name_is_that_of_its_files(name, form):
    assert packed(name) == form
