"""Scripts that make pictures with diffusers: what their calls say, and what they compute."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.faces.cli.menu import run as command
from weighbridge.files.runfiles import read

FLUX = 'FluxPipeline.from_pretrained("black-forest-labs/FLUX.1-dev", torch_dtype=torch.bfloat16)'


def run(*lines, load=FLUX):
    script = "\n".join(("import torch", "from diffusers import *", f"pipe = {load}", *lines))
    file = read(script, "make.py")
    assert file.kind == "pipeline-script"
    [only] = file.runs
    return only


def settings(*lines, load=FLUX):
    return run(*lines, load=load).settings


CALL = 'pipe("a cat", height=768, width=1360, num_inference_steps=28, guidance_scale=3.5)'


def test_the_script_that_most_people_have():
    only = run("pipe.enable_model_cpu_offload()", f"image = {CALL}.images[0]")
    assert (only.task, only.model) == ("image", "black-forest-labs/FLUX.1-dev")
    assert only.settings == {"dtype": "bfloat16", "offload": "model", "size": "1360x768"}
    assert not only.unread and not only.notes
    assert [(one.setting, one.line) for one in only.understood] == [
        ("model", 3),
        ("dtype", 3),
        ("offload", 4),
        ("size", 5),
    ]


@all_of(
    ("line", "expected"),
    [
        ("pipe.to('cuda')", {}),
        ("pipe.enable_sequential_cpu_offload()", {"offload": "sequential"}),
        ("pipe.vae.enable_tiling()", {"vae_tiling": True}),
        ("pipe.enable_vae_slicing()", {"vae_slicing": True}),
        ("pipe.load_lora_weights('a')\npipe.load_lora_weights('b')", {"lora": 2}),
        (
            "pipe.enable_group_offload(onload_device=c, offload_type='leaf_level', use_stream=True)",
            {"offload": "group-leaf", "offload_stream": True},
        ),
        ("pipe.transformer.enable_layerwise_casting()", {"layerwise_casting": True}),
    ],
)
def test_what_methods_do_with_memory(line, expected):
    assert settings(line, "pipe('x')") == {"dtype": "bfloat16", **expected}


LOAD = 'FluxPipeline.from_pretrained("black-forest-labs/FLUX.1-dev", {})'


@all_of(
    ("words", "expected"),
    [
        ("text_encoder_2=None, tokenizer_2=None", {"drop": ("text_encoder_2",)}),
        (
            (
                "quantization_config=PipelineQuantizationConfig(quant_backend='bitsandbytes_4bit', "
                "quant_kwargs={'load_in_4bit': True, 'bnb_4bit_quant_type': 'nf4'}, "
                "components_to_quantize=['transformer', 'text_encoder_2'])"
            ),
            {"quantization": "transformer=nf4+text_encoder_2=nf4"},
        ),
        (
            (
                "quantization_config=PipelineQuantizationConfig(quant_mapping={'transformer': "
                "TorchAoConfig(Int8WeightOnlyConfig()), 'text_encoder_2': QuantoConfig('int8')})"
            ),
            {"quantization": "transformer=torchao-int8+text_encoder_2=quanto-int8"},
        ),
        (
            (
                "transformer=FluxTransformer2DModel.from_single_file('x/flux1-dev-Q4_K_S.gguf', "
                "quantization_config=GGUFQuantizationConfig(compute_dtype=torch.bfloat16))"
            ),
            {"quantization": "transformer=Q4_K_S"},
        ),
        ("**dict", {}),
    ],
)
def test_what_a_pipeline_is_loaded_with(words, expected):
    assert settings("pipe.to('cuda')", "pipe('x')", load=LOAD.format(words)) == expected


def test_a_component_may_be_loaded_above():
    wan = "Wan-AI/Wan2.1-T2V-14B-Diffusers"
    script = f'''
import torch
from diffusers import *
name = "{wan}"
vae = AutoencoderKLWan.from_pretrained(name, subfolder="vae", torch_dtype=torch.float32)
packed = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
net = WanTransformer3DModel.from_pretrained(name, quantization_config=packed)
class Maker:
    def __init__(self):
        self.pipe = WanPipeline.from_pretrained(name, vae=vae, transformer=net).to("cuda")
    def make(self):
        self.pipe(prompt="x", height=480, width=832, num_frames=33, guidance_scale=1.0)
        return self.pipe(prompt=["x", "y"], height=480, width=832, num_frames=81)
'''
    [only] = read(script, "make.py").runs
    assert only.model == wan
    assert only.settings == {
        "vae_dtype": "float32",
        "quantization": "transformer=nf4",
        "size": "832x480",
        "frames": 81,
        "batch_size": 2,
    }


def test_what_is_computed_is_named_and_leaves_no_sure_verdict():
    only = run("w = pick()", "pipe.to('cuda')", "pipe('x', width=w, height=512)")
    [width] = only.unread
    assert (width.key, width.line, width.raises, width.lowers) == ("width", 6, True, True)
    assert only.settings["size"] == "1024x512"
    assert "computed" in run("pipe('x')", load="FluxPipeline.from_pretrained(pick())").unread[0].why
    assert run("pipe.enable_attention_slicing()", "pipe('x')").unread[0].lowers
    assert any("never calls it" in one.why for one in run("pipe.to('cuda')").unread)
    assert "on the card" in run("pipe('x')").notes[0]


def test_a_folder_that_is_not_here_is_called_by_its_name():
    only = run("pipe('x')", load="FluxPipeline.from_pretrained('/models/FLUX.1-dev')")
    assert only.model == "flux.1-dev" and only.unread[0].raises


def test_of_two_pipelines_the_one_that_we_know_is_weighed():
    prior = 'FluxPriorReduxPipeline.from_pretrained("black-forest-labs/FLUX.1-Redux-dev")'
    only = run(f"base = {FLUX}", "base.to('cuda')", "base(width=512, height=512)", load=prior)
    assert only.model == "black-forest-labs/FLUX.1-dev" and only.settings["size"] == "512x512"


def test_a_script_that_trains_is_another_kind():
    lines = ["import torch", f"pipe = {FLUX}", "loss.backward()"]
    with pytest.raises(weighbridge.WeighbridgeError):
        read("\n".join(lines), "train.py")


def test_a_script_and_its_error_are_answered_together(tmp_path):
    error = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 90.00 MiB. GPU 0 has a "
        "total capacity of 23.68 GiB of which 50.00 MiB is free. Including non-PyTorch memory, "
        "this process has 23.60 GiB memory in use. Of the allocated memory 23.00 GiB is allocated "
        "by PyTorch, and 100.00 MiB is reserved by PyTorch but unallocated."
    )
    text = f"It dies:\n\nimport torch\npipe = {FLUX}\npipe.to('cuda')\n{CALL}\n\n{error}\n"
    found = weighbridge.weigh(text, name="mail", offline=True)
    assert found.message is not None
    assert found.runs[0].report.workload["pipeline"] == "flux.1-dev"
    path = tmp_path / "make.py"
    path.write_text(f"import torch\npipe = {FLUX}\npipe.to('cuda')\n{CALL}\n")
    assert command(["infer", str(path), "--gpu", "h200", "--offline", "-q"]) == 0
