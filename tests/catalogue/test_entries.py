"""The built-in catalogue: every entry is a config that we can weigh, and the counts are the published ones."""

import json
import re
from functools import cache
from importlib import resources

import pytest

from tests.cases import all_of
from weighbridge.models import catalogue
from weighbridge.models.arch.builder import blueprint, known
from weighbridge.models.arch.config import Config

pytestmark = pytest.mark.slow

NAMES = catalogue.names()


def config(name):
    return Config(catalogue.find(name).config)


@cache
def weighed(name):
    """(parameters of the class that the config names, keys that nobody read)."""
    c = config(name)
    return blueprint(c).parameters, c.unread()


def headless(name):
    return blueprint(config(name), base_model=True).parameters


def nested(raw):
    yield raw
    for value in raw.values():
        if isinstance(value, dict):
            yield from nested(value)


# Published numbers

FACTS = {
    # the class itself, on the meta device of transformers 5.23.0
    "bert-base-cased": 108_340_804,
    "glm-4.5-air": 106_852_245_504,
    "kimi-k2": 1_026_408_209_408,
    "dbrx": 131_596_523_520,
    # parameters by dtype in the safetensors headers: docs/source/metadata_parsing.mdx of
    # huggingface/safetensors
    "bloom": 176_247_271_424,
    "bloom-3b": 3_002_557_440,
    "roberta-base": 124_697_433,
    # the same: temp.md of huggingface/safetensors at 01b9ce07e953
    "bart-base": 139_420_416,
    "distilbert-base-uncased": 66_985_530,
    "flan-t5-base": 247_577_856,
    "flan-t5-large": 783_150_080,
    # metadata.total_size of model.safetensors.index.json (or of the .bin index) over two bytes
    "gemma-2b": 2_506_172_416,
    "gemma-2-2b": 2_614_341_888,
    "llama-2-7b": 6_738_415_616,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mistral-small-24b": 23_572_403_200,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "mpt-7b": 6_649_286_656,
    "nllb-200-1.3b": 1_370_638_336,
    "phi-2": 2_779_683_840,
    "phi-3.5-mini": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "qwen2-7b": 7_615_616_512,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen2.5-vl-7b": 8_292_166_656,
    # safetensors.total of the Hub's API, as AlexsJones/llmfit recorded it (a3e0eb27c57f)
    "aya-23-8b": 8_028_033_024,
    "codellama-7b": 6_738_546_688,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "ernie-4.5-21b-a3b": 21_825_437_888,
    "exaone-4.0-32b": 32_003_216_384,
    "falcon-mamba-7b": 7_272_665_088,
    "gemma-3-4b": 4_300_079_472,
    "gemma-3-12b": 12_187_325_040,
    "granite-3.3-8b": 8_170_864_640,
    "jamba-v0.1": 51_570_323_328,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-11b-vision": 10_670_220_835,
    "llama-3.2-90b-vision": 88_593_355_323,
    "llama-4-maverick": 401_583_781_376,
    "llava-1.5-13b": 13_351_494_656,
    "mamba-130m": 129_135_360,
    "mamba-370m": 371_516_416,
    "mistral-large-123b": 122_610_069_504,
    "nemotron-3-nano-30b-a3b": 31_577_937_344,
    "nomic-embed-text-v1.5": 136_731_648,
    "olmo-1b": 1_176_764_416,
    "olmo-2-7b": 7_298_617_344,
    "olmo-2-13b": 13_716_198_400,
    "olmo-2-32b": 32_234_279_936,
    "olmo-3-7b": 7_298_011_136,
    "olmoe-1b-7b": 6_919_161_856,
    "paligemma-3b": 2_923_466_480,
    "phi-1.5": 1_418_270_720,
    "phi-mini-moe": 7_647_632_704,
    "qwen2-vl-7b": 8_291_375_616,
    "qwen3-coder-480b-a35b": 480_154_875_392,
    "qwen3-vl-4b": 4_437_815_808,
    "qwen3-vl-32b": 33_357_390_064,
    "qwen3-vl-235b-a22b": 235_670_022_896,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "smollm3-3b": 3_075_098_624,
    "stablelm-3b": 2_795_443_200,
    "starcoder2-3b": 3_030_371_328,
    "starcoder2-7b": 7_173_923_840,
    "granite-4.0-h-tiny": 6_939_037_248,
    "tinyllama-1.1b": 1_100_048_384,
    "yi-6b": 6_061_035_520,
    "yi-34b": 34_388_917_248,
    # presets of keras-hub, another implementation of the same models (71453d08f59e)
    "all-minilm-l6-v2": 22_713_216,
    "bge-small-en-v1.5": 33_360_000,
    "bge-large-en-v1.5": 335_141_888,
    "bloom-560m": 559_214_592,
    "bloom-1b7": 1_722_408_960,
    "deberta-v3-small": 141_304_320,
    "deberta-v3-base": 183_831_552,
    "deberta-v3-large": 434_012_160,
    "flan-t5-small": 76_961_152,
    "flan-t5-xl": 2_849_757_184,
    "flan-t5-xxl": 11_135_332_352,
    "gemma-7b": 8_537_680_896,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3.5-9b": 9_409_813_744,
    "qwen3.6-27b": 27_356_728_560,
    "mistral-small-3.2-24b": 24_011_361_280,
    "qwen3.5-35b-a3b": 35_107_181_936,
    "sam-vit-base": 93_735_728,
    "t5-small": 60_506_624,
    "t5-large": 737_668_096,
    "whisper-tiny": 37_760_640,
    "whisper-small": 241_734_912,
    "whisper-large-v2": 1_543_304_960,
}

BASES = {
    # the class without its head is what `accelerate estimate-memory` builds
    "llama-3.1-70b": 69_503_033_344,
    # presets of keras-hub (backbones)
    "albert-xxlarge-v2": 222_595_584,
    "bert-base-cased": 108_310_272,
    "bert-large-uncased": 335_141_888,
    "distilbert-base-uncased": 66_362_880,
    "swin-tiny-patch4-window7-224": 27_519_354,
    # embedding models, which are headless: safetensors.total of the Hub's API
    "llama-3.1-8b": 7_504_924_672,  # nvidia/llama-embed-nemotron-8b
    "mistral-7b-v0.1": 7_110_660_096,  # Salesforce/SFR-Embedding-2_R
    "xlm-roberta-large": 559_890_432,  # intfloat/multilingual-e5-large-instruct
}


@all_of("name", FACTS)
def test_the_published_number_of_parameters(name):
    assert weighed(name)[0] == FACTS[name]


@pytest.mark.parametrize("name", BASES)
def test_the_published_number_of_a_headless_base(name):
    assert headless(name) == BASES[name]


# Every entry


def test_every_kind_is_known():
    kinds = {catalogue.find(name).model_type for name in NAMES}
    assert kinds
    assert all(known({"model_type": kind}) for kind in kinds)


@all_of("name", NAMES)
def test_every_entry_builds(name):
    assert weighed(name)[0] > 0


@all_of("name", {catalogue.find(n).model_type: n for n in NAMES}.values())
def test_one_of_every_kind_builds_without_its_head(name):
    assert headless(name) > 0


@all_of("name", NAMES)
def test_no_key_that_looks_like_memory_is_left_unread(name):
    assert weighed(name)[1] == []


def test_a_key_that_nobody_reads_is_seen():
    c = Config({**catalogue.find("llama-3.1-8b").config, "memory_vocab_size": 7})
    blueprint(c)
    assert c.unread() == ["config.json: memory_vocab_size"]


@all_of("name", NAMES)
def test_numbers_of_one_config_fit_each_other(name):
    for raw in nested(catalogue.find(name).config):
        heads, groups = raw.get("num_attention_heads"), raw.get("num_key_value_heads")
        if isinstance(heads, int) and isinstance(groups, int):
            assert heads % groups == 0
        if "layer_types" in raw:
            assert len(raw["layer_types"]) == raw["num_hidden_layers"]
        if "compress_ratios" in raw:
            assert len(raw["compress_ratios"]) >= raw["num_hidden_layers"]


# The file


def lines():
    text = resources.files("weighbridge.models.catalogue").joinpath("models.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_names_are_unique_and_in_order():
    names = [line["name"] for line in lines()]
    assert names == sorted(set(names)) == NAMES


def test_each_line_has_the_same_keys():
    assert {tuple(line) for line in lines()} == {("name", "repo_id", "config", "source")}


@all_of("name", NAMES)
def test_a_name_is_neither_an_id_nor_a_size(name):
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)
    assert not re.fullmatch(r"[\d.]+[kmbt]?", name)


@all_of("name", NAMES)
def test_whose_config_it_is_and_where_it_was_read(name):
    entry = catalogue.find(name)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repo_id)
    assert entry.source
    assert not re.search(r"(^|\s)[./~]*/\w", entry.source)  # a path on somebody's disk


def test_the_file_stays_small():
    size = len(
        resources.files("weighbridge.models.catalogue").joinpath("models.jsonl").read_bytes()
    )
    assert size < 290_000  # thirteen models of 2026 are 28 kB


# Looking things up


def test_a_name_is_found_in_any_case():
    assert catalogue.has("Llama-3.1-8B")
    assert catalogue.find("LLAMA-3.1-8b").repo_id == "meta-llama/Llama-3.1-8B"
    assert not catalogue.has("meta-llama/Llama-3.1-8B")
    with pytest.raises(KeyError):
        catalogue.find("no-such-model")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("3.1-70B", "llama-3.1-70b"),  # part of a name
        ("EleutherAI/", "pythia-1b"),  # part of an id
        ("Gpt_NeoX", "pythia-1b"),  # part of a model type
        ("deberta-v2", "deberta-v3-base"),
    ],
)
def test_search_finds_by_name_id_or_type(pattern, name):
    found = [entry.name for entry in catalogue.search(pattern)]
    assert name in found
    assert len(found) < len(NAMES)


def test_search_finds_all_and_nothing():
    assert [entry.name for entry in catalogue.search("")] == NAMES
    assert catalogue.search("no-such-model") == []


def test_an_entry_is_plain_data():
    entry = catalogue.find("bert-base-cased")
    assert json.loads(json.dumps(entry.to_dict())) == {
        "name": "bert-base-cased",
        "repo_id": "google-bert/bert-base-cased",
        "model_type": "bert",
        "source": entry.source,
        "config": dict(entry.config),
    }
