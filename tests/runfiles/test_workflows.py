"""Workflows of ComfyUI: what their nodes say, in both forms, and what is odd in them."""

import json
from itertools import product

import pytest
from tests.cases import all_of

from weighbridge.base.errors import BadFileError, UsageError, WeighbridgeError
from weighbridge.faces.api import weigh
from weighbridge.faces.cli.menu import run as command
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.serving import workflow


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


FLUX = {
    "1": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="fp8_e4m3fn"),
    "2": node(
        "DualCLIPLoader",
        clip_name1="clip_l.safetensors",
        clip_name2="t5xxl_fp8_e4m3fn.safetensors",
        type="flux",
    ),
    "3": node("EmptySD3LatentImage", width=1216, height=832, batch_size=2),
    "4": node("BasicGuider", model=["1", 0], conditioning=["2", 0]),
    "5": node("SamplerCustomAdvanced", guider=["4", 0], latent_image=["3", 0]),
    "6": node("VAEDecodeTiled", samples=["5", 0], tile_size=256),
    "7": node("SaveImage", images=["6", 0]),
}


def runs(flow):
    return read(json.dumps(flow, indent=1), "workflow.json").runs


def run(flow):
    [only] = runs(flow)
    return only


def unread(flow):
    return {one.key: one.why for one in run(flow).unread}


def test_what_decides_is_read():
    only = run(FLUX)
    assert (only.task, only.model) == ("image", "flux.1-dev")
    assert only.settings == {
        "engine": "comfyui",
        "size": "1216x832",
        "batch_size": 2,
        "vae_tiling": True,
        "vae_tile": 256,
        "quantization": "transformer=fp8+text_encoder_2=fp8",
    }
    assert not only.unread and not only.defaults


def test_the_page_saves_the_same_as_lists_of_values():
    page = {
        "nodes": [
            {"id": 1, "type": "UnetLoaderGGUF", "widgets_values": ["flux1-dev-Q6_K.gguf"]},
            {"id": 2, "type": "EmptyLatentImage", "widgets_values": [640, 512, 1]},
            {"id": 3, "type": "VAEDecode", "inputs": [{"name": "samples", "link": 1}]},
            {"id": 4, "type": "PreviewImage", "inputs": [{"name": "images", "link": 2}]},
            {"id": 5, "type": "KSampler", "widgets_values": [1, "fixed", 20, 1.0],
             "inputs": [{"name": "model", "link": 3}, {"name": "latent_image", "link": 4}]},
            {"id": 6, "type": "CheckpointLoaderSimple", "mode": 2,
             "widgets_values": ["sd_xl_base_1.0.safetensors"]},
        ],
        "links": [[1, 5, 0, 3, 0], [2, 3, 0, 4, 0], [3, 1, 0, 5, 0], [4, 2, 0, 5, 1]],
    }  # fmt: skip
    only = run(page)
    assert only.model == "flux.1-dev"
    assert only.settings == {
        "engine": "comfyui",
        "size": "640x512",
        "guidance": "off",
        "quantization": "transformer=Q6_K",
    }


def test_what_no_output_needs_does_not_run():
    beside = {"9": node("UNETLoader", unet_name="qwen_image_fp8_e4m3fn.safetensors")}
    assert [one.model for one in runs(FLUX | beside)] == ["flux.1-dev"]
    without_output = {name: one for name, one in (FLUX | beside).items() if name != "7"}
    assert {one.model for one in runs(without_output)} == {"flux.1-dev", "qwen-image"}


def test_a_bypassed_node_hands_on_what_it_is_given():
    page = {
        "nodes": [
            {"id": 1, "type": "UnetLoaderGGUF", "widgets_values": ["flux1-dev-Q6_K.gguf"]},
            {"id": 2, "type": "LoraLoaderModelOnly", "mode": 4,
             "inputs": [{"name": "model", "link": 1}]},
            {"id": 3, "type": "SaveImage", "inputs": [{"name": "images", "link": 2}]},
        ],
        "links": [[1, 1, 0, 2, 0], [2, 2, 0, 3, 0]],
    }  # fmt: skip
    assert run(page).model == "flux.1-dev"


def test_nodes_of_a_group_are_read():
    group = {
        "id": "0f1e2d3c-0000-1111-2222-333344445555",
        "inputNode": {},
        "nodes": [{"id": 1, "type": "UnetLoaderGGUF", "widgets_values": ["flux1-dev-Q8_0.gguf"]}],
        "links": [{"id": 1, "origin_id": 1, "target_id": 2}],
    }
    page = {
        "nodes": [{"id": 8, "type": group["id"]}, {"id": 9, "type": "SaveImage"}],
        "links": [],
        "definitions": {"subgraphs": [group]},
    }
    assert run(page).model == "flux.1-dev" and not run(page).unread


def test_both_experts_are_one_pipeline():
    files = (f"wan2.2_t2v_{which}_noise_14B_fp8_scaled.safetensors" for which in ("high", "low"))
    flow = {str(n): node("UNETLoader", unet_name=file) for n, file in enumerate(files)}
    assert run(flow).settings["quantization"] == "transformer=fp8+transformer_2=fp8"
    assert run(flow).defaults[0][:2] == ("size", "832x480")


def test_a_checkpoint_has_its_encoders_in_its_format():
    flow = {"1": node("CheckpointLoaderSimple", ckpt_name="flux1-dev-fp8.safetensors")}
    assert run(flow).settings["quantization"] == "transformer=fp8+text=fp8"


def test_blocks_frames_and_guidance():
    flow = {
        "1": node("WanVideoModelLoader", model="Wan2_1-T2V-14B_fp8_e4m3fn.safetensors"),
        "2": node("WanVideoBlockSwap", blocks_to_swap=20),
        "3": node("WanVideoEmptyEmbeds", width=832, height=480, num_frames=81),
        "4": node("WanVideoDecode", enable_vae_tiling=False, tile_x=272),
        "5": node("WanVideoSampler", cfg=1),
    }
    assert run(flow).settings == {
        "engine": "comfyui",
        "size": "832x480",
        "frames": 81,
        "guidance": "off",
        "blocks_to_swap": 20,
        "quantization": "transformer=fp8",
    }
    sampler = {"8": node("KSampler", cfg=3.5, model=["1", 0])}
    assert run({"1": FLUX["1"]} | sampler).settings["guidance"] == "batched"


def test_a_value_that_is_linked_is_followed():
    linked = {"8": node("PrimitiveInt", value=512), "9": node("Reroute", value=["8", 0])}
    flow = FLUX | linked | {"3": node("EmptyLatentImage", width=["9", 0], height=["8", 0])}
    assert run(flow).settings["size"] == "512x512"


@pytest.mark.parametrize(
    ("changed", "key", "why"),
    [
        ({"3": node("EmptyLatentImage", width=["8", 0], height=64),
          "8": node("GetImageSize", image=["2", 0])}, "EmptyLatentImage.width", "computes it"),
        ({"1": node("UNETLoader", unet_name="my-own.safetensors")}, "UNETLoader.unet_name",
         "no file that we know"),
        ({"5": node("SuperSampler", model=["4", 0], latent=["3", 0])}, "SuperSampler", "do not know"),
        ({"4": node("StyleModelLoader", model=["1", 0], x=["2", 0])}, "StyleModelLoader",
         "not weighed"),
    ],
)  # fmt: skip
def test_what_is_odd_is_named_and_not_guessed(changed, key, why):
    assert why in unread(FLUX | changed)[key]


def refused(flow):
    """Return the line that a workflow is refused with, which names its file."""
    with pytest.raises(UsageError) as error:
        runs(flow)
    assert error.value.code == 2 and str(error.value).startswith("workflow.json:")
    return str(error.value)


@all_of(
    ("value", "name"),
    product(
        [-1024, 0, float("nan"), float("inf"), 1e30, "wide", [1, 2, 3], True, {"a": 1}],
        ["width", "batch_size"],
    ),
)
def test_a_number_that_is_none_is_named_with_its_node(name, value):
    size = {"width": 64, "height": 64, "batch_size": 1, name: value}
    line = refused(FLUX | {"3": node("EmptyLatentImage", **size)})
    assert f"EmptyLatentImage 3: {name} is " in line and "whole number from 1" in line


def test_a_number_is_read_as_comfyui_reads_it():
    flow = FLUX | {"3": node("EmptyLatentImage", width="512", height=640.0, batch_size=1)}
    assert run(flow).settings["size"] == "512x640"


def test_links_that_go_nowhere_or_round_are_named():
    nowhere = FLUX | {"3": node("EmptyLatentImage", width=["99", 0], height=64)}
    assert "EmptyLatentImage 3: width links to node '99', which is not" in refused(nowhere)
    itself = FLUX | {"5": node("KSampler", model=["1", 0], latent_image=["5", 0])}
    assert "KSampler 5 needs what it makes itself" in refused(itself)
    both = {"8": node("Reroute", a=["9", 0]), "9": node("Reroute", a=["8", 0])}
    third = node("EmptyLatentImage", width=["8", 0], height=64)
    assert "Reroute" in refused(FLUX | both | {"3": third})


def test_a_node_that_is_given_the_model_and_is_not_known_leaves_nothing_sure():
    odd = {"9": node("Booster", model=["1", 0]), "4": node("BasicGuider", model=["9", 0])}
    [one] = [each for each in run(FLUX | odd).unread if each.key == "Booster"]
    assert one.raises and one.lowers
    [beside] = run(
        FLUX | {"6": node("Show", text=["5", 0]), "7": node("SaveImage", a=["6", 0])}
    ).unread
    assert beside.key == "Show" and not beside.raises


def test_encoders_of_another_pipeline_are_named():
    flow = FLUX | {"1": node("UNETLoader", unet_name="qwen_image_fp8_e4m3fn.safetensors")}
    found = {one.key: one for one in run(flow).unread}
    assert "qwen-image has no such text encoder" in found["DualCLIPLoader clip_l.safetensors"].why
    assert all(one.raises and one.lowers for one in found.values())


def test_a_sampler_without_a_loader_is_named():
    only = run({"3": node("KSampler", cfg=1), "7": node("SaveImage", images=["3", 0])})
    assert not only.model and only.unread[0].key == "KSampler 3"


@pytest.mark.slow
def test_a_model_that_is_typed_leaves_what_the_workflow_says():
    flow = FLUX | {
        "1": node("UNETLoader", unet_name="my-own.safetensors", weight_dtype="fp8_e4m3fn")
    }
    text = json.dumps(flow)
    found = weigh(text, name="workflow.json", gpu="4090", model="flux.1-dev")
    workload = found.runs[0].report.workload
    assert workload["quantization"] == "transformer=fp8+text_encoder_2=fp8"
    assert (workload["width"], workload["batch_size"]) == (1216, 2)
    assert found.fits == "yes"


@pytest.mark.slow
def test_a_workflow_is_its_own_line_to_paste():
    flow = {
        "1": node("CheckpointLoaderSimple", ckpt_name="flux1-dev-fp8.safetensors"),
        "3": node("EmptyLatentImage", width=1024, height=1024, batch_size=1),
        "5": node("KSampler", cfg=1, model=["1", 0], latent_image=["3", 0]),
        "6": node("SaveImage", images=["5", 0]),
    }
    assert run(flow).settings["quantization"] == "transformer=fp8+text=fp8"
    report = weigh(json.dumps(flow), name="workflow.json", gpu="4090").runs[0].report
    assert report.derived["launch"] == "python main.py\n# workflow.json, as it is"
    small = weigh(json.dumps(flow), name="workflow.json", gpu="3060").runs[0].report
    assert small.remedies and not any("UNETLoader" in one.paste for one in small.remedies)


def test_what_is_not_weighed_leaves_no_yes():
    flow = FLUX | {"4": node("StyleModelLoader", model=["1", 0], x=["2", 0])}
    assert [one.raises for one in run(flow).unread] == [True]


def test_loras_and_controlnets_are_loaded_with_the_denoiser():
    flow = {
        "1": FLUX["1"],
        "4": node("ControlNetLoader", control_net_name="canny.safetensors"),
        "41": node("LoraLoaderModelOnly", lora_name="a.safetensors", model=["1", 0]),
        "42": node("LoraLoader", lora_name="b.safetensors", model=["41", 0]),
    }
    found = run(flow)
    assert (found.settings["lora"], found.settings["controlnet"]) == (2, 1)
    wan = {"1": node("UNETLoader", unet_name="wan2.1_t2v_14B_bf16.safetensors"), "4": flow["4"]}
    assert "controlnet" not in run(wan).settings
    assert unread(wan)["ControlNetLoader"] == "its model is not weighed"


def test_models_of_several_pipelines_are_runs_of_their_own():
    files = ("sd_xl_base_1.0.safetensors", "flux1-dev-Q4_K_S.gguf")
    flow = {str(n): node("UNETLoader", unet_name=file) for n, file in enumerate(files)}
    assert [one.name for one in runs(flow)] == ["sdxl", "flux.1-dev"]


@pytest.mark.parametrize(
    "flow",
    [
        {
            "nodes": [7, None, {"type": 3}, {"type": "KSampler", "inputs": [4, {}]}],
            "links": [1, []],
        },
        {"1": {"class_type": "KSampler", "inputs": [1, 2]}},
        {"1": node("UNETLoader", unet_name={"a": 1})},
    ],
)
def test_hostile_workflows_are_read_and_refused(flow):
    answer = weigh(json.dumps(flow), name="workflow.json", gpu="3060")
    assert answer.fits == "unknown" and answer.runs[0].why


@pytest.mark.slow
def test_workflows_have_the_limits_of_files():
    deep = {"1": node("KSampler", a=json.loads("[" * 60 + "]" * 60))}
    with pytest.raises(BadFileError):
        read(json.dumps(deep), "workflow.json")
    with pytest.raises(WeighbridgeError):
        read(json.dumps({str(n): node("Note") for n in range(30_000)}), "workflow.json")


def test_other_json_is_none(tmp_path):
    for data in ({"nodes": [], "edges": []}, {"a": {"class": "x"}}, [1], {"model_type": "llama"}):
        with pytest.raises(WeighbridgeError):
            read(json.dumps(data), "x.json")
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(FLUX))
    assert workflow.is_workflow(str(path))
    path.write_text('{"model_type": "llama"}')
    assert not workflow.is_workflow(str(path))
    assert not workflow.is_workflow(str(tmp_path / "none.json"))


@pytest.mark.slow
@pytest.mark.parametrize("word", [[], ["infer"], ["image"], ["video"], ["fit"]])
def test_a_workflow_stands_where_a_model_does(word, tmp_path, capsys):
    path = tmp_path / "my-flow.json"
    path.write_text(json.dumps(FLUX))
    code = command([*word, str(path), "--gpu", "3060", "--size", "512x512", "--reserve-vram", "1"])
    screen = capsys.readouterr().out
    assert code == 0 and "ComfyUI workflow" in screen and "512 x 512" in screen


@pytest.mark.slow
def test_a_workflow_is_weighed_as_comfyui_runs_it():
    answer = weigh(json.dumps(FLUX), name="workflow.json", gpu="3060")
    report = answer.runs[0].report
    assert report.workload["engine"] == "comfyui"
    assert report.workload["width"] == 1216 and report.verdict is not None


@pytest.mark.slow
def test_a_report_of_an_error_is_weighed_by_the_workflow_in_it():
    """ComfyUI's page attaches the workflow to what it writes of an error."""
    log = "Requested to load Flux\nloaded partially 5949.68 5949.23 0\n"
    error = "torch.OutOfMemoryError: Allocation on device\n"
    text = f"{log}{error}## Attached Workflow\n```\n{json.dumps(FLUX, indent=1)}\n```\n"
    answer = weigh(text, gpu="3060")
    assert answer.message.judged.why == "comfyui.partly"
    assert answer.runs[0].report.workload["engine"] == "comfyui"


def _pictured(group, **node):
    """Return a page whose one node stands for a graph that makes a picture."""
    return {
        "nodes": [
            {"id": 5, "type": "PrimitiveInt", "widgets_values": [3]},
            {"id": 8, "type": group["id"], **node},
            {"id": 9, "type": "SaveImage", "inputs": [{"name": "images", "link": 1}]},
        ],
        "links": [[1, 8, 0, 9, 0], [2, 5, 0, 8, 3]],
        "definitions": {"subgraphs": [group]},
    }


def _a_graph(*given):
    """Return a graph whose loader and size have these of their inputs from outside."""
    own = {"unet_name": 1, "width": 6, "height": 6, "batch_size": 6}
    kept = {1: ["flux1-dev-Q8_0.gguf"], 6: [512, 768, 1]}
    links = [
        {"id": 10 + n, "origin_id": -10, "origin_slot": n, "target_id": own[name]}
        for n, name in enumerate(given)
    ]
    inputs = {name: {"name": name, "link": 10 + n} for n, name in enumerate(given)}
    return {
        "id": "0f1e2d3c-0000-1111-2222-333344445555",
        "inputNode": {"id": -10},
        "inputs": [{"name": name} for name in given],
        "nodes": [
            {
                "id": id_,
                "type": kind,
                "widgets_values": kept[id_],
                "inputs": [inputs[name] for name in given if own[name] == id_],
            }
            for id_, kind in ((1, "UnetLoaderGGUF"), (6, "EmptySD3LatentImage"))
        ],
        "links": links,
    }


GIVEN = ("unet_name", "width", "height", "batch_size")
NAMES = [["-1", name] for name in GIVEN]
WITHIN = [["1", "unet_name"], ["6", "width"], ["6", "height"], ["6", "batch_size"]]
OUTSIDE = ["flux1-dev-Q4_0.gguf", 1216, 832, 2]
ITS_OWN = ("transformer=Q8_0", "512x768", 1)


@all_of(
    ("promoted", "values", "right"),
    [
        (
            NAMES,
            OUTSIDE,
            ("transformer=Q4_0", "1216x832", 2),
        ),  # of the node that stands for the graph
        (WITHIN, OUTSIDE, ("transformer=Q4_0", "1216x832", 2)),  # by the node within
        (WITHIN, [], ITS_OWN),  # as the newest page saves it: the node within has its value
        ([], [], ITS_OWN),
        ([["1"], 3, None], OUTSIDE, ITS_OWN),
    ],
)
def test_a_graph_that_a_node_stands_for_is_as_its_nodes_alone(promoted, values, right):
    node = {"properties": {"proxyWidgets": promoted}, "widgets_values": values}
    found = run(_pictured(_a_graph(*GIVEN), **node))
    said = (
        *(found.settings[n] for n in ("quantization", "size")),
        found.settings.get("batch_size", 1),
    )
    assert (found.model, said) == ("flux.1-dev", right)
    assert not found.unread


def test_what_is_linked_into_a_graph_wins_over_its_own_value():
    linked = {"inputs": [{"name": "batch_size", "link": 2}]}
    assert run(_pictured(_a_graph(*GIVEN), **linked)).settings["batch_size"] == 3


def test_graphs_in_graphs_end():
    """A graph that holds itself, twice, is read to a depth and no further."""
    graph = _a_graph()
    graph["nodes"] += [{"id": n, "type": graph["id"]} for n in (20, 21)]
    assert run(_pictured(graph)).model == "flux.1-dev"
