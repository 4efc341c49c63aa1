"""Names that people type, without a network: spellings, tunes, Ollama's tags, torchvision's names."""

import json

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import AwayError, NotFoundError
from weighbridge.base.sentences import keys_of
from weighbridge.engines.format_names import meant
from weighbridge.faces.cli.menu import run
from weighbridge.models import catalogue
from weighbridge.models.arch.longest import longest
from weighbridge.models.catalogue import everyday, tunes
from weighbridge.models.catalogue.owners import BY_BYTES
from weighbridge.models.quantization.schemes import scheme

MEANT = {
    "step": "step-3.7-flash",
    "mimo": "mimo-v2-flash",
    # another spelling, of which nothing is said
    "Llama-3.1-8B": "llama-3.1-8b",
    "llama 3.1 8b": "llama-3.1-8b",
    "llama3.1-8b": "llama-3.1-8b",
    "gpt-2": "gpt2",
    "wide_resnet50_2": "wide-resnet50-2",
    "resnet-18": "resnet18",
    # the size that a bare name means
    "mistral-7b": "mistral-7b-v0.3",
    "mixtral": "mixtral-8x7b",
    "llama3.1": "llama-3.1-8b",
    "gpt-oss": "gpt-oss-20b",
    "vit": "vit-base-patch16-224",
    # tunes
    "llama-3.1-8b-instruct": "llama-3.1-8b",
    "Llama-3.1-8B_Instruct": "llama-3.1-8b",
    "meta-llama-3-8b-instruct": "llama-3-8b",
    "llama-2-7b-chat": "llama-2-7b",
    "gemma-3-27b-it": "gemma-3-27b",
    "mistral-7b-instruct-v0.1": "mistral-7b-v0.1",
    "mistral-7b-instruct-v0.2": "mistral-7b-v0.2",
    "mistral-7b-instruct-v0.3": "mistral-7b-v0.3",
    "mixtral-8x7b-instruct-v0.1": "mixtral-8x7b",
    "deepseek-v3-0324": "deepseek-v3",
    "qwen3-4b-instruct-2507": "qwen3-4b",
    "qwen2.5-coder-32b-instruct": "qwen2.5-32b",
    "vicuna-7b-v1.5": "llama-2-7b",
    "deepseek r1 distill 32b": "qwen2.5-32b",
    "r1 distill llama 70b": "llama-3.3-70b",
    # a family and a size: the newest release that has it
    "llama 70b": "llama-3.3-70b",
    "Llama 405B": "llama-3.1-405b",
    "qwen 32b": "qwen3-32b",
    "qwen 30b": "qwen3-30b-a3b",
    "gemma 27b": "gemma-3-27b",
    # tags of Ollama
    "llama3.1:8b": "llama-3.1-8b",
    "llama3:70b-instruct": "llama-3-70b",
    "llama3.1:latest": "llama-3.1-8b",
    "qwen3:8b": "qwen3-8b",
    "qwen3:30b": "qwen3-30b-a3b",
    "qwen3:235b-a22b": "qwen3-235b-a22b",
    "gpt-oss:20b": "gpt-oss-20b",
    "gemma2:2b": "gemma-2-2b",
    "gemma:2b": "gemma-2b",
    "phi4:14b": "phi-4",
    "deepseek-r1:8b": "qwen3-8b",
    "deepseek-r1:671b": "deepseek-r1",
    "llama3.2-vision:11b": "llama-3.2-11b-vision",
    "mixtral:8x22b": "mixtral-8x22b",
    # torchvision
    "vit_b_16": "vit-base-patch16-224",
    "mobilenet_v3_large": "mobilenetv3-large-100",
    "regnet_y_400mf": "regnety-004",
    "efficientnet_b7": "tf-efficientnet-b7",
}
FORMS = {
    "Qwen3-235B-A22B-Q4_K_M-00001-of-00003.gguf": ("qwen3-235b-a22b", "Q4_K_M"),
    "llama3.1:70b-instruct-q4_K_M": ("llama-3.1-70b", "Q4_K_M"),
    "qwen3:32b-q8_0": ("qwen3-32b", "Q8_0"),
    "mistral:7b-instruct-v0.2-q4_0": ("mistral-7b-v0.2", "Q4_0"),
    "llama-3.1-8b-instruct-awq": ("llama-3.1-8b", "awq"),
    "qwen2.5-7b-instruct-gptq-int4": ("qwen2.5-7b", "gptq-int4"),
    "qwen2.5-7b-instruct-gptq-int8": ("qwen2.5-7b", "gptq-int8"),
    "qwen3-32b-fp8-dynamic": ("qwen3-32b", "fp8-dynamic"),
    "gemma3:27b-it-qat": ("gemma-3-27b", "Q4_0"),
    "gemma3:27b-it-q8_0": ("gemma-3-27b", "Q8_0"),
    "llama3.2:3b-instruct-fp16": ("llama-3.2-3b", "F16"),
    "qwen3:235b": ("qwen3-235b-a22b", ""),
    "magistral": ("mistral-small-24b", ""),
    "magistral:24b-small-2506-q8_0": ("mistral-small-24b", "Q8_0"),
    "granite-4": ("granite-4.0-micro", ""),
    "granite4:small-h": ("granite-4.0-h-small", ""),
    "granite4:tiny-h": ("granite-4.0-h-tiny", ""),
    "hunyuan-a13b-instruct": ("hunyuan-a13b", ""),
    "gemma3n:e2b": ("gemma-3n-e2b", ""),
    "starcoder2:15b": ("starcoder2-15b", ""),
    "olmo-3:32b-think": ("olmo-3-32b", ""),
    "nemotron-nano": ("nemotron-3-nano-30b-a3b", ""),
    "nemotron-nano:9b-v2": ("nemotron-nano-9b-v2", ""),
}
# Names of 2026, and those of which an alias was made that lost the format, the context or the id
POSITIONS = {
    "kimi-k2-thinking": 262_144,
    "qwen3-coder:30b": 262_144,
    "qwen3-30b-a3b-thinking-2507": 262_144,
    "qwen3-30b-a3b": 40_960,
    "qwen3:30b": 262_144,  # its tag was moved to the build of July 2025, as the other two below
    "qwen3:4b": 262_144,
    "qwen3:235b": 262_144,
    "qwen3:4b-q4_K_M": 40_960,
    "qwen3:8b": 40_960,
    "qwen3-4b": 40_960,
    "qwen2.5-coder:32b": 32_768,
    "qwen2.5-32b": 131_072,
    "qwen2.5-32b-instruct": 32_768,  # fewer than its base
    "qwen2.5:7b": 32_768,
    "qwen2.5:7b-base": 131_072,
    "qwen2.5-72b-instruct-awq": 32_768,
    "glm-4.6": 202_752,
    "glm-4.7": 202_752,
    "qwen3.6-27b": 262_144,
    "qwen3.6-35b-a3b": 262_144,
    "qwen3.8-27b": 262_144,
    "qwen3-coder-next": 262_144,
    "gemma-4-e2b": 131_072,
    "gemma4:e4b": 131_072,
    "gemma3n:e4b": 32_768,
    "mistral-small-3.2": 131_072,
    "devstral": 131_072,
    "olmo-3-32b": 65_536,
    "kimi-k2.6": 262_144,
    "deepseek-v4-flash": 1_048_576,
}
STRANGERS = ["llama-3.1-13b", "lama-3.1-8b", "gemma3:270m", "deepseek-r1:1.5b", "llava:7b", "qwen"]


@all_of("name", MEANT)
def test_what_is_meant(name):
    found = everyday.meaning(name)
    assert found.entry.name == MEANT[name]
    same = everyday._key(name.lower()) == everyday._key(MEANT[name])
    assert bool(found.note) is not same
    assert found.quantization == ""


@all_of("name", FORMS)
def test_a_format_in_a_name(name):
    found = everyday.meaning(name)
    assert (found.entry.name, found.quantization) == FORMS[name]


@all_of("name", everyday.NAMES)
def test_the_table_names_entries_and_adds_to_them(name):
    entry = everyday.NAMES[name]
    assert catalogue.has(entry)
    assert not catalogue.has(name)
    assert everyday.meaning(name).entry.name == entry


def test_a_name_of_the_catalogue_means_itself():
    for name in catalogue.names():
        assert everyday.meaning(name.upper()) == (catalogue.find(name), "", "", "")
        if not set(name.split("-")) & everyday.TUNES and not catalogue.has(f"{name}-instruct"):
            assert everyday.meaning(f"{name}-instruct").entry.name.replace("-", "") == name.replace(
                "-", ""
            )


@all_of(
    ("name", "repo_id"),
    [
        ("llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama3.1:8b-text-q8_0", "meta-llama/Llama-3.1-8B"),
        ("llama-2-13b-chat", "meta-llama/Llama-2-13b-chat-hf"),
        ("gemma-3-27b-it", "google/gemma-3-27b-it"),
        ("qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct"),
        ("qwen2.5-coder:7b", "Qwen/Qwen2.5-Coder-7B-Instruct"),
        ("qwen3-coder:30b", "Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        ("deepseek-r1:8b", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B"),
        ("Kimi K2 Thinking", "moonshotai/Kimi-K2-Thinking"),
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
    ],
)
def test_the_repository_that_is_loaded(name, repo_id):
    assert everyday.meaning(name).entry.repo_id == repo_id


@all_of("name", POSITIONS)
def test_the_positions_of_what_is_meant(name):
    assert longest(everyday.meaning(name).entry.config) == POSITIONS[name]


@all_of("name", tunes.TUNES)
def test_a_tune_has_the_shapes_of_its_base_and_an_id_of_its_own(name):
    tune = tunes.TUNES[name]
    found, base = everyday.meaning(name), catalogue.find(tune.base)
    assert not catalogue.has(name)
    assert found.entry.repo_id == tune.repo_id != base.repo_id
    assert longest(found.entry.config) == tune.positions or longest(base.config)
    changed = {"max_position_embeddings", "text_config"}
    assert {k: v for k, v in found.entry.config.items() if k not in changed} == {
        k: v for k, v in base.config.items() if k not in changed
    }
    assert f"it is {tune.repo_id}" in found.note
    spelled = (*_short_of(name), name.replace("-", ""), name.replace("-", " "))
    assert all(everyday.meaning(s).entry.repo_id == tune.repo_id for s in spelled)


def _short_of(name):
    return [short for short, known in tunes.SHORT.items() if known == name]


def test_a_name_in_16_bits_is_the_model_as_published_but_for_files_of_gguf():
    name = "llama3.2:1b-instruct-fp16"
    assert weighbridge.infer(name, engine="vllm").workload["quantization"] is None
    assert weighbridge.infer(name, engine="llama.cpp").workload["quantization"] == "F16"


@all_of("form", sorted(everyday.FORMS_OF_TWO))
def test_a_form_of_two_words_is_a_format(form):
    assert scheme(meant(form)).name


@pytest.mark.slow
def test_kimi_k2_thinking_is_in_four_bits():
    """594 GB, as its card says; the FP8 of Kimi K2 is 1,030 GB."""
    report = weighbridge.load("Kimi K2 Thinking")
    assert report.workload["quantization"] == "w4a16-g32"
    weights = next(c for c in report.devices[0].phases[0].components if c.name == "weights")
    assert weights.bytes.expected == pytest.approx(594e9, rel=0.001)
    assert "moonshotai/Kimi-K2-Thinking" in weighbridge.infer("Kimi K2 Thinking").derived["launch"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Qwen/Qwen3-32B-FP8", "fp8-block"),
        ("Qwen/Qwen3-8B-AWQ", "awq-4bit-g128"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq-4bit-g128"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "gptq-8bit-g128"),
    ],
)
def test_a_repository_in_a_format_of_its_owner(name, form, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    report = weighbridge.infer(name, engine="vllm", offline=True)
    assert report.workload["quantization"] == form
    assert f"vllm serve {name}" in report.derived["launch"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "fp8-dynamic"),
        ("RedHatAI/Qwen3-8B-FP8", "fp8-tensor"),
        ("RedHatAI/Qwen2.5-7B-Instruct-quantized.w4a16", "w4a16-g128"),
        ("RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8", "w8a8-int8"),
        ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", "awq-4bit-g128"),
        ("TheBloke/Mistral-7B-Instruct-v0.2-GPTQ", "gptq-4bit-g128"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "fp8-static"),
        ("nvidia/Qwen3-30B-A3B-FP4", "nvfp4"),
        ("nvidia/DeepSeek-R1-NVFP4", "nvfp4"),  # another format in the place of its base's own
        ("unsloth/Qwen3.6-27B-NVFP4", "nvfp4, others fp8-static"),  # attention in 8 bits
        ("cyankiwi/Qwen3-30B-A3B-Instruct-2507-AWQ-4bit", "w4a16-g32"),
        ("cyankiwi/MiniMax-M2.7-AWQ-4bit", "w4a16-g32"),
        ("cpatonn/Qwen3-VL-32B-Instruct-AWQ-8bit", "w8a16-g32"),
    ],
)
def test_a_packed_copy_has_the_shapes_of_its_base(name, form, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    report = weighbridge.infer(name, engine="vllm", offline=True)
    assert report.workload["quantization"] == form
    assert f"vllm serve {name} " in report.derived["launch"]
    guessed = "its format is what such a name usually means" in report.warnings[0]
    assert guessed is not name.startswith(
        "hugging-quants/"
    )  # which the catalogue has with its format


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("lmstudio-community/Qwen3-14B-MLX-4bit", "mlx-4bit-g64"),  # its config.json
        ("mlx-community/Kimi-K2.5-3bit", "mlx-3bit-g64"),
        ("mlx-community/Qwen3-8B-4bit-DWQ", "mlx-4bit-g64"),
        ("unsloth/Qwen3.6-35B-A3B-UD-MLX-6bit", "mlx-6bit-g64"),
        ("lmstudio-community/Qwen3-8B-GGUF", "Q4_K_M"),
        ("unsloth/Qwen3.6-27B-MTP-GGUF:Q8_0_MTP", "Q8_0"),
        ("bartowski/Qwen3-8B-GGUF:UD-Q4_K_XL", "Q4_K_M"),
        ("mlx-community/Qwen3.6-35B-A3B-bf16", None),
        ("lmstudio-community/Qwen3-8B", None),
    ],
)
def test_a_mirrors_name_is_its_base_in_the_format_that_it_names(name, form, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weighbridge.infer(name, offline=True).workload["quantization"] == form


def test_what_a_mirror_packs_in_groups_of_32(monkeypatch, tmp_path):
    """A repository of 8 bits holds 9,043,691,904 elements, in words of 32 bits with scales."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name = "cyankiwi/Qwen3-30B-A3B-Instruct-2507-AWQ-{}bit"
    eight, four = (
        sum(
            part.bytes.expected
            for part in weighbridge.infer(name.format(bits), engine="vllm", offline=True)
            .devices[0]
            .phases[0]
            .components
            if part.name == "weights"
        )
        for bits in (8, 4)
    )
    packed = 9_043_691_904 - 5_306_567_040  # four bits of each weight that is packed
    assert eight - four == pytest.approx(4 * packed, rel=0.002)


def test_a_dynamic_copy_is_said_to_take_more(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    dynamic, plain = (
        weighbridge.load(f"unsloth/Qwen3-8B-{end}", offline=True).warnings[0]
        for end in ("unsloth-bnb-4bit", "bnb-4bit")
    )
    assert "up to a quarter more" in dynamic
    assert "up to a quarter more" not in plain


@pytest.mark.parametrize(
    "name", ["me/qwen3-8b", "me/mine-AWQ", "me/deepseek-r1-FP8", "unsloth/gpt-oss-20b-bnb-4bit"]
)
def test_copies_that_no_name_tells(name, monkeypatch, tmp_path):
    """Another's fine-tune, a base that nobody knows, and one that is packed already."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AwayError):
        weighbridge.load(name, offline=True)


@all_of("form", sorted(everyday.FORMS))
def test_a_form_of_one_word_is_a_format(form):
    assert scheme(meant(form)).name


@pytest.mark.parametrize("name", STRANGERS)
def test_did_you_mean_before_any_network(name, monkeypatch, capsys):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a network was asked"))
    assert run(["load", name, "--offline"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        f"error: {name}: no such name in the built-in catalogue; did you mean "
    )
    assert said.err.count("\n") == 1


def test_nothing_near():
    with pytest.raises(NotFoundError, match="weighbridge models"):
        weighbridge.load("zzzzzz")


@pytest.mark.parametrize("name", ["bert-base-multilingual-cased", "distilgpt2", "t5-base@main"])
def test_the_first_ids_of_the_hub_have_no_owner(name):
    assert everyday.may_be_an_id(name)


def test_what_comes_near():
    assert everyday.nearest("lama-3.1-8b")[0] == "llama-3.1-8b"
    assert everyday.nearest("mixtrall")[0] == "mixtral-8x7b"
    assert everyday.nearest("") == []
    assert everyday.nearest("zzzz-a13b") == []


# In answers


@pytest.mark.slow
def test_a_tune_is_answered_with_its_base_and_it_is_said():
    found, base = weighbridge.load("llama-3.1-8b-instruct"), weighbridge.load("llama-3.1-8b")
    assert found.peak == base.peak
    assert found.model.parameters == 8_030_261_248
    assert found.warnings[0] == (
        "llama-3.1-8b-instruct is sized as llama-3.1-8b (meta-llama/Llama-3.1-8B)"
    )
    line = weighbridge.infer("llama-3.1-8b-instruct", engine="vllm").derived["launch"]
    assert "vllm serve meta-llama/Llama-3.1-8B-Instruct" in line


@pytest.mark.slow
def test_a_tag_of_ollama_is_the_weights_as_published_unless_it_names_a_format():
    plain, base = weighbridge.load("qwen3:0.6b"), weighbridge.load("qwen3-0.6b")
    assert plain.peak == base.peak
    assert plain.warnings[0] == "qwen3:0.6b is sized as qwen3-0.6b (Qwen/Qwen3-0.6B)"
    served = weighbridge.infer("qwen3:0.6b").workload
    assert (served["engine"], served["quantization"]) == ("ollama", "Q4_K_M")
    packed = weighbridge.load("qwen3:0.6b-q8_0")
    assert packed.peak == weighbridge.load("qwen3-0.6b", quantization="Q8_0").peak
    assert packed.warnings[0] == (
        "in Q8_0, as the model was named: --dtype or --quantization ask for another"
    )
    for other in ({"dtype": "bfloat16"}, {"quantization": "nf4"}):
        assert (
            weighbridge.load("qwen3:0.6b-q8_0", **other).peak
            == weighbridge.load("qwen3-0.6b", **other).peak
        )


@pytest.mark.slow
def test_training_takes_no_format_from_a_name():
    w = {"method": "lora", "seq_len": 128}
    assert (
        weighbridge.train("qwen3:0.6b-q8_0", **w).peak == weighbridge.train("qwen3-0.6b", **w).peak
    )


def test_a_tune_of_a_repository_that_the_catalogue_holds(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = weighbridge.load("Qwen/Qwen3-0.6B-Base", offline=True)
    assert found.model.parameters == 596_049_920
    assert "the shapes of the built-in catalogue's qwen3-0.6b" in found.warnings[0]
    for other in ("someone/Qwen3-0.6B-Base", "Qwen/Qwen3-0.6B-EXL3"):
        with pytest.raises(weighbridge.base.errors.WeighbridgeError):
            weighbridge.load(other, offline=True)


def test_copies_in_groups_of_a_width_that_no_cards_share_are_padded():
    """QwenLM/Qwen3 issue 578: 29,568 = 231 groups of 128; the owner's copies have 29,696."""
    for name in ("qwen2.5-72b-instruct-awq", "qwen2.5-72b-gptq-int4"):
        assert everyday.meaning(name).entry.config["intermediate_size"] == 29_696
    for name in ("qwen2.5-72b-instruct", "qwen2.5-72b-fp8", "qwen2.5-7b-awq"):
        assert everyday.meaning(name).entry.config["intermediate_size"] != 29_696
    assert (
        everyday.of_owner("Qwen/Qwen2.5-72B-Instruct-AWQ").entry.config["intermediate_size"]
        == 29_696
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("glm-4.7", "glm-4.7"),
        ("magistral", "magistral-small-2506"),
        ("qwen3:30b", "qwen3-30b-a3b-thinking-2507"),
        ("llama-3.1-8b-instruct", "llama-3.1-8b"),  # the entry has both
    ],
)
def test_an_answer_is_headed_by_the_model_that_was_asked_for(typed, name):
    """A tune is sized as its base, and is not called so."""
    report = weighbridge.load(typed)
    assert report.model.name == name
    assert everyday.meaning(typed).entry.config["model_type"]


@pytest.mark.slow
def test_a_tune_that_is_not_fetched_names_the_shapes_that_it_has():
    report = weighbridge.load("zai-org/GLM-4.7", offline=True)
    assert report.model.name == "glm-4.7"
    assert "the shapes of the built-in catalogue's glm-4.5" in report.warnings[0]


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("unsloth/DeepSeek-V3-bf16", 1250),  # 671.03 B parameters in two bytes
        ("deepseek-v3:bf16", 1250),
        ("unsloth/gpt-oss-20b-BF16", 39),
        ("unsloth/gpt-oss-20b", 13),
        ("unsloth/gpt-oss-20b-GGUF:F16", 13),  # experts stay as they were trained
        ("unsloth/Qwen3-8B-BF16", 15),
    ],
)
def test_a_copy_in_a_plain_dtype_is_not_as_its_maker_packs_it(name, gib):
    report = weighbridge.load(name, offline=True)
    assert gib <= report.devices[0].phases[-1].at("driver").expected / (1 << 30) - 0.4 < gib * 1.05


@pytest.mark.parametrize("form", ["Q4_K_M", "nf4", "fp8"])
def test_a_format_is_a_name_with_a_model_alone(form, capsys):
    assert run(["infer", "qwen3-8b", form, "--offline", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["workload"]["quantization"].startswith(form)
    assert run(["load", form, "--offline"]) == 2
    assert f"--quantization {form}" in capsys.readouterr().err


def test_a_copy_whose_bytes_are_published_is_packed_so():
    """26,381,249,312 bytes of files (vllm-project/recipes, Qwen3.8-27B.yaml), of which a layer that
    predicts further tokens, in 16 bits, is not loaded: two projections, attention, an MLP, norms."""
    found = weighbridge.load("Inferact/Qwen3.8-27B-NVFP4", offline=True)
    attention = 5120 * (2 * 6144 + 2 * 1024) + 6144 * 5120
    predicting = 2 * 5120**2 + attention + 3 * 5120 * 17_408 + 5 * 5120 + 2 * 256
    stored = found.devices[0].phases[0].of("weights").expected + 2 * predicting
    assert stored == pytest.approx(26_381_249_312, rel=2e-5)


def test_a_format_is_guessed_of_all_other_copies_of_an_owner():
    """Law: nobody's width is narrowed by another repository of the same owner."""
    known, guessed = (
        everyday.of_owner(f"Inferact/{n}-NVFP4") for n in ("Qwen3.8-27B", "Qwen3-32B")
    )
    assert known.note == ""
    assert "format_usual" in keys_of(guessed.note)
    assert all(everyday.of_owner(name).note == "" for name in BY_BYTES)
