"""Rows of pipelines: all that they name is there, and the trees of their components have the
parameters that were published."""

import pytest

import weighbridge
from tests.cases import all_of
from tests.pictures.rows import with_programs
from weighbridge.base.errors import UnsupportedError
from weighbridge.faces.cli.menu import run
from weighbridge.models.catalogue import everyday, pipelines
from weighbridge.models.checkpoint.gather import has_name
from weighbridge.pictures import components
from weighbridge.pictures.config import class_of, config_of
from weighbridge.pictures.spec import spec

ROWS = tuple(map(pipelines.find, pipelines.names()))
ANSWERED = tuple(map(pipelines.find, with_programs()))
# Counted of the classes, diffusers 0.42 and transformers 5.23 on the meta device; those of FLUX,
# Wan, Qwen-Image and HiDream are the sums of their published files, too
PUBLISHED = {
    "sd-1.5": {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    "sd-2.1": {"text_encoder": 340_387_840, "unet": 865_910_724, "vae": 83_653_863},
    "sdxl": {
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "unet": 2_567_463_684,
        "vae": 83_653_863,
    },
    "flux.1-dev": {"transformer": 11_901_408_320, "text_encoder_2": 4_762_310_656},
    "wan2.2-t2v-a14b": {"transformer": 14_288_491_584, "transformer_2": 14_288_491_584},
    "qwen-image": {"transformer": 20_430_401_088},
    "hidream-full": {"transformer": 17_105_733_184},
    "longcat-image": {"transformer": 6_270_668_864},
    "kandinsky5-t2i-lite": {"transformer": 6_022_080_576},
    "kandinsky5-t2v-lite": {"transformer": 2_007_702_848},
    "omnigen-v1": {"transformer": 3_762_072_592},
    "ltx-2.3": {"transformer": 18_988_838_144},
    "ernie-image": {"transformer": 8_033_490_048, "text_encoder": 3_849_090_048},
}
# Classes without a program: rows have their configs, and nothing is answered of them
WITHOUT_PROGRAM = frozenset(
    (
        *("AutoencoderKLQwenImage21", "QwenImage21Transformer2DModel"),
        "Qwen3VLForConditionalGeneration",
    )
)


@all_of("row", ROWS, ids=lambda row: row.name)
def test_what_a_row_names_is_there(row):
    recipe = spec(row)
    runs = (*recipe.encoders, *recipe.denoisers, recipe.vae, *filter(None, [recipe.image_encoder]))
    assert {*runs} == row.parts.keys()
    assert {*recipe.order} <= row.parts.keys()
    assert {*recipe.short} <= {*recipe.encoders} and row.files.keys() <= {*recipe.denoisers}
    assert not {*recipe.unweighed, *recipe.beside} & row.parts.keys()
    assert recipe.source and row.repo_id.count("/") == 1


@all_of("row", ROWS, ids=lambda row: row.name)
def test_sizes_of_a_row_are_those_of_its_autoencoder(row):
    """Latents, and what divides sides."""
    recipe = spec(row)
    vae = config_of(row.parts[recipe.vae])
    assert recipe.latents == (vae.latent_channels or vae.z_dim)
    width, height, frames = recipe.size
    multiple = recipe.multiple or recipe.space
    assert not width % multiple and not height % multiple and not multiple % recipe.space
    assert not (frames - 1) % recipe.time
    assert (frames > 1) == (recipe.kind == "video") == (recipe.fps > 0)
    assert recipe.tile is None or min(recipe.tile) >= recipe.space


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_names_lead_to_their_row(row):
    for name in (row.name, *row.names):
        assert pipelines.find(name) is row
        assert has_name(name) and everyday.meaning(name) is None
    for repo in (row.repo_id, *row.repos):
        assert pipelines.of_repository(repo.upper()) is row
        own = repo.rpartition("/")[2]  # without its owner
        assert pipelines.find(own) is row and everyday.meaning(own) is None


def test_a_name_means_one_row():
    keys = [pipelines.key(name) for row in ROWS for name in (row.name, *row.names)]
    assert len(keys) == len({*keys}) == len(pipelines.keys())
    for several in (
        [repo.lower() for row in ROWS for repo in (row.repo_id, *row.repos)],
        [pipelines.key(f) for row in ROWS for files in row.files.values() for f in files],
        [repo.lower() for row in ROWS for repo in row.gguf],
    ):
        assert len(several) == len({*several})


@pytest.mark.parametrize("name", ["SDXL", "sdxl_base", "stable diffusion xl", "sd-xl"])
def test_spellings(name):
    assert pipelines.find(name).name == "sdxl"


def test_a_row_like_another_has_what_it_does_not_name():
    dev, fill = pipelines.find("flux.1-dev"), pipelines.find("flux.1-fill-dev")
    assert fill.parts["transformer"] == {
        **dev.parts["transformer"],
        "in_channels": 384,
        "out_channels": 64,
    }
    assert fill.parts["vae"] == dev.parts["vae"] and fill.recipe == {**dev.recipe, "pictures": 1}
    assert "text_encoder" not in pipelines.find("sdxl-refiner").parts
    assert fill.gguf != dev.gguf and fill.names != dev.names


def test_classes_without_a_program_are_known():
    configs = [config for row in ROWS for config in row.parts.values()]
    without = {class_of(config) for config in configs if not components.known(config)}
    assert without <= WITHOUT_PROGRAM


@pytest.mark.slow
@pytest.mark.parametrize("row", ANSWERED, ids=lambda row: row.name)
def test_every_row_is_counted(row):
    model = weighbridge.prepare(row.name).model()
    counts = {part.name: part.blueprint.parameters for part in model.parts}
    assert counts.keys() == row.parts.keys()
    assert PUBLISHED.get(row.name, {}).items() <= counts.items()
    assert model.repo_id == row.repo_id and model.notes == ()


def test_a_name_near_a_pipeline(capsys):
    assert everyday.nearest("sdxxl")[0] == "sdxl"
    assert run(["load", "sdxxl"]) == 2
    assert "did you mean sdxl" in capsys.readouterr().err


@pytest.mark.slow
def test_its_repository_where_the_hub_is_away(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    answer = weighbridge.load("stabilityai/stable-diffusion-xl-base-1.0", offline=True)
    assert answer.model.parameters == 3_468_837_867
    assert "answered from the built-in catalogue's sdxl" in answer.warnings[0]


@pytest.mark.slow
def test_the_largest_module_that_is_never_split():
    """1,206,568,960 numbers in up_blocks.0 of SDXL, as accelerate 1.15 finds it; the blocks of
    FLUX's transformer, of which the table of T5 is the largest there is."""
    rows = {row.dtype: row for row in weighbridge.load("sdxl").table}
    assert rows["float32"].largest_layer_bytes == 4 * 1_206_568_960
    blocks = components.blueprint(pipelines.find("flux.1-dev").parts["transformer"]).blocks
    assert blocks == ("transformer_blocks.*", "single_transformer_blocks.*")


@pytest.mark.parametrize(
    "changes",
    [
        {"class_embed_type": "timestep"},
        {"addition_embed_type": "image"},
        {"mid_block_type": "UNetMidBlock2D"},
        {"cross_attention_norm": "layer_norm"},
        {"dual_cross_attention": True},
        {"encoder_hid_dim_type": "ip_image_proj"},
        {"down_block_types": ["AttnDownBlock2D"] * 3},
        {"up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "AttnUpBlock2D"]},
    ],
)
def test_other_networks_are_not_guessed(changes):
    unet = pipelines.find("sdxl").parts["unet"]
    assert components.blueprint(unet) is not None
    with pytest.raises(UnsupportedError, match=next(iter(changes))):
        components.blueprint({**unet, **changes})
    assert components.blueprint({**unet, "_class_name": "UNet3DConditionModel"}) is None


FILES = {  # as their repositories have them
    "flux1-dev-Q4_K_S.gguf": ("flux.1-dev", "transformer", "Q4_K_S"),
    "models/unet/flux1-dev-fp8.safetensors": ("flux.1-dev", "transformer", "fp8"),
    "flux1-dev-bnb-nf4-v2.safetensors": ("flux.1-dev", "transformer", "nf4"),
    "svdq-int4_r32-flux.1-dev.safetensors": ("flux.1-dev", "transformer", "svdquant"),
    "flux1-dev-kontext_fp8_scaled.safetensors": ("flux.1-kontext-dev", "transformer", "fp8"),
    "Wan2_2-T2V-A14B-Q4_K_M.gguf": ("wan2.2-t2v-a14b", "transformer", "Q4_K_M"),
    "Wan2.2-T2V-A14B-LowNoise-Q6_K.gguf": ("wan2.2-t2v-a14b", "transformer_2", "Q6_K"),
    "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors": ("wan2.2-i2v-a14b", "transformer", "fp8"),
    "wan2.1_t2v_1.3B_fp16.safetensors": ("wan2.1-t2v-1.3b", "transformer", "float16"),
    "qwen_image_fp8_e4m3fn.safetensors": ("qwen-image", "transformer", "fp8"),
    "qwen_image_edit_2509_bf16.safetensors": ("qwen-image-edit-2509", "transformer", "bfloat16"),
    "sd_xl_base_1.0.safetensors": ("sdxl", "unet", ""),
    "v1-5-pruned-emaonly.ckpt": ("sd-1.5", "unet", ""),
    "city96/FLUX.1-schnell-gguf": ("flux.1-schnell", "transformer", ""),
    "hunyuan-video-t2v-720p-Q8_0.gguf": ("hunyuan-video", "transformer", "Q8_0"),
}


@all_of("name", FILES)
def test_a_file_of_a_denoiser(name):
    assert pipelines.of_file(name)[:3] == FILES[name]


@all_of(
    "name",
    [
        *("Llama-3.1-8B-Q4_K_M.gguf", "model-00001-of-00002.safetensors", "flux1-dev-anime.gguf"),
        *("t5xxl_fp8_e4m3fn.safetensors", "Q4_K_M.gguf", ""),
    ],
)
def test_files_of_something_else(name):
    assert pipelines.of_file(name) is None
