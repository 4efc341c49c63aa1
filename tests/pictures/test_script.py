"""The lines of diffusers that run a pipeline: each format that was asked for is in them."""

from functools import cache

import pytest

import weighbridge
from tests.cases import all_of
from tests.pictures.rows import with_programs
from weighbridge.files.runfiles import read
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures.formats import by_component
from weighbridge.pictures.spec import spec

prepared = cache(weighbridge.prepare)


def lines(name, quantization):
    report = prepared(name).image(quantization=quantization, remedies=False)
    return report.derived["launch"].splitlines()


REPOSITORY = "https://huggingface.co/city96/FLUX.1-dev-gguf"


def test_a_denoiser_in_gguf_comes_from_its_repository_where_a_link_names_the_file():
    [line] = [line for line in lines("flux.1-dev", "Q6_K") if line.startswith("transformer = ")]
    assert f'from_single_file("{REPOSITORY}/blob/main/flux1-dev-Q6_K.gguf"' in line
    unseen = lines("flux.1-dev", "IQ4_XS")
    assert f"# transformer: IQ4_XS of {REPOSITORY}" in unseen
    assert any('from_single_file("./transformer-IQ4_XS.gguf"' in line for line in unseen)


def test_each_denoiser_has_a_file_and_rests_in_float8():
    """QuantStack's files lie in folders of their own."""
    files = [line for line in lines("wan2.2-t2v-a14b", "Q4_K_S") if "from_single_file" in line]
    assert ["HighNoise/" in line for line in files] == [True, False]
    assert ["LowNoise/Wan2.2-T2V-A14B-LowNoise-Q4_K_S.gguf" in line for line in files] == [0, 1]
    report = prepared("wan2.2-t2v-a14b").image(layerwise_casting=True, remedies=False)
    casts = [one for one in report.derived["launch"].splitlines() if "layerwise_casting" in one]
    assert [one.split(".")[1] for one in casts] == ["transformer", "transformer_2"]


def test_where_no_repository_is_known_the_file_is_here():
    assert any('from_single_file("./' in line for line in lines("sana-1600m", "Q6_K"))


def test_a_text_encoder_in_gguf_has_a_line_for_the_reader():
    launch = lines("flux.1-dev", "Q6_K+text_encoder_2=Q4_K_M")
    assert "# text_encoder_2: the file in Q4_K_M" in launch
    assert not any(line.startswith("text_encoder_2 =") for line in launch)


@pytest.mark.parametrize("form", ["svdquant", "quanto-int8", "torchao-fp6"])
def test_a_format_without_a_line_of_diffusers_is_not_left_out(form):
    assert f"# transformer: the file in {form}" in lines("flux.1-dev", form)


def test_what_bitsandbytes_packs_has_its_own_line():
    launch = lines("flux.1-dev", "nf4")
    assert any(line.startswith("quantized = ") for line in launch)
    assert not any(line.startswith("# ") for line in launch)


def test_fp8_rests_as_it_was_weighed():
    launch = lines("flux.1-dev", "fp8+text_encoder_2=fp8")
    casts = "storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16"
    assert f"pipe.transformer.enable_layerwise_casting({casts})" in launch
    assert f"apply_layerwise_casting(pipe.text_encoder_2, {casts})" in launch
    assert not any(line.startswith("# ") for line in launch)


def test_formats_of_two_kinds_have_a_config_each():
    launch = lines("flux.1-dev", "torchao-int8+text_encoder_2=nf4")
    [packs] = [line for line in launch if line.startswith("quantized = ")]
    assert '"transformer": diffusers.TorchAoConfig(Int8WeightOnlyConfig())' in packs
    assert '"text_encoder_2": transformers.BitsAndBytesConfig(load_in_4bit=True' in packs
    assert "from torchao.quantization import Int8WeightOnlyConfig" in launch


@pytest.mark.parametrize("form", ["nf4", "bnb-int8", "torchao-fp8", "fp8", "Q4_K_S", "svdquant"])
def test_lines_are_python(form):
    compile("\n".join(lines("wan2.2-t2v-a14b", f"{form}+text={form}")), "launch", "exec")


def test_encoders_that_are_left_out_are_not_loaded():
    report = prepared("flux.1-dev").image(quantization="nf4+text=nf4", drop="text", remedies=False)
    *_, loads, _, call = report.derived["launch"].splitlines()
    assert "text_encoder=None, text_encoder_2=None" in loads
    assert call.startswith("out = pipe(**embeddings, ")
    assert not any("text" in line for line in report.derived["launch"].splitlines()[:-3])


def read_back(report):
    """What the lines of a report are answered with, asked as a file of them would be."""
    file = read(report.derived["launch"], "made.py")
    assert file.kind == "pipeline-script"
    [run] = file.runs
    assert not run.unread
    gpu = report.workload["gpu"]
    return prepared(run.model).image(gpu=gpu, remedies=False, **run.settings)


def judged(report):
    return report.verdict.fits, [d["peak"] for d in report.to_dict()["devices"]]


def same_by_its_lines(name, gpu, **asked):
    """The law: what a remedy's tick rests on is in the program that is printed for it."""
    whole = prepared(name).image(gpu=gpu, **asked)
    changes = [dict(one.change) for one in whole.remedies if one.fits != "no"]
    assert changes
    for change in changes:
        report = prepared(name).image(gpu=gpu, remedies=False, **asked | change)
        assert judged(read_back(report)) == judged(report), change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gpu", "asked"),
    [
        ("sdxl", "3070", {}),
        ("auraflow", "3090", {"batch_size": 2, "vae_dtype": "bfloat16"}),
        ("flux.1-krea-dev", "5gb", {"quantization": "Q4_K_S", "offload": "group-block"}),
        ("wan2.1-i2v-14b-480p", "4090", {"offload": "model", "size": "480x320", "frames": 33}),
    ],
)
def test_lines_of_a_remedy_read_back_to_its_answer(name, gpu, asked):
    same_by_its_lines(name, gpu, **asked)


@pytest.mark.nightly
@pytest.mark.parametrize("name", with_programs())
def test_lines_of_each_remedy_read_back_to_its_answer(name):
    whole = prepared(name).image(gpu="3070")
    if any(one.fits != "no" for one in whole.remedies):
        same_by_its_lines(name, "3070")


def test_an_autoencoder_in_another_dtype_than_the_pipeline_makes_of_it_is_loaded_so():
    """AuraFlow decodes in float32 what is in float16; bfloat16 stays as it is."""
    narrow = prepared("auraflow").image(vae_dtype="bfloat16", remedies=False).derived["launch"]
    assert 'subfolder="vae", torch_dtype=torch.bfloat16' in narrow
    assert "vae=vae" in narrow
    for name in ("auraflow", "sdxl"):
        assert "vae" not in prepared(name).image(remedies=False).derived["launch"]


@all_of("name", pipelines.names())
def test_each_component_that_is_packed_may_be_named(name):
    """The law: a program names what it packs, and who reads it finds them; HunyuanVideo 1.5 has an
    encoder that is in no chain of model offload."""
    recipe = spec(pipelines.find(name))
    names = (*recipe.encoders, *recipe.denoisers)
    said = "+".join(f"{one}=nf4" for one in names)
    assert by_component(said, recipe) == dict.fromkeys(names, "nf4")


def test_a_format_with_a_dtype_beside_it_reads_back():
    """bnb_4bit_compute_dtype is a name of torch's, and no literal."""
    report = prepared("sd3-medium").image(
        quantization="nf4+text=nf4", offload="model", size="512x512", gpu="3070", remedies=False
    )
    back = read_back(report)
    assert judged(back) == judged(report)
    assert "fp4" not in back.workload["quantization"].replace("nf4", "")
