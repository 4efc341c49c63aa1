"""The lines of diffusers that run a pipeline: each format that was asked for is in them."""

from functools import cache

import pytest

import weighbridge

prepared = cache(weighbridge.prepare)


def lines(name, quantization):
    report = prepared(name).picture(quantization=quantization, remedies=False)
    return report.derived["launch"].splitlines()


@pytest.mark.parametrize("form", ["Q6_K", "IQ4_XS"])
def test_a_denoiser_in_gguf_comes_from_its_repository(form):
    [line] = [line for line in lines("flux.1-dev", form) if line.startswith("transformer = ")]
    address = f"https://huggingface.co/city96/FLUX.1-dev-gguf/blob/main/flux1-dev-{form}.gguf"
    assert f'from_single_file("{address}"' in line


def test_where_no_repository_is_known_the_file_is_here():
    assert any('from_single_file("./' in line for line in lines("sana-1600m", "Q6_K"))


def test_a_text_encoder_in_gguf_has_a_line_for_the_reader():
    launch = lines("flux.1-dev", "Q6_K+text_encoder_2=Q4_K_M")
    assert "# text_encoder_2: the file in Q4_K_M" in launch
    assert not any(line.startswith("text_encoder_2 =") for line in launch)


@pytest.mark.parametrize("form", ["fp8", "svdquant", "torchao-int8"])
def test_a_format_without_a_line_of_diffusers_is_not_left_out(form):
    assert f"# transformer: the file in {form}" in lines("flux.1-dev", form)


def test_what_bitsandbytes_packs_has_its_own_line():
    launch = lines("flux.1-dev", "nf4")
    assert any(line.startswith("quantized = ") for line in launch)
    assert not any(line.startswith("# ") for line in launch)
