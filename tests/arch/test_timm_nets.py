"""timm's networks as recorded: the counts of its own models, without torch."""

from collections import defaultdict
from math import prod

import pytest
from tools import record_timm

from tests.cases import all_of
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models import catalogue
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families import timm_nets

# Counted of the class itself, timm 1.0.31 on the meta device: parameters, those of the largest
# module without children, numbers in buffers. tests/torch/test_timm_nets.py counts them again.
FACTS = {
    "resnet18": (11_689_512, 2_359_296, 9_620),
    "resnet34": (21_797_672, 2_359_296, 17_060),
    "resnet50": (25_557_032, 2_359_296, 53_173),
    "resnet101": (44_549_160, 2_359_296, 105_448),
    "resnet152": (60_192_808, 2_359_296, 151_579),
    "resnext50_32x4d": (25_028_904, 2_097_152, 68_277),
    "resnext101_32x8d": (88_791_336, 4_194_304, 202_984),
    "resnext101_64x4d": (83_455_272, 4_194_304, 202_984),
    "wide_resnet50_2": (68_883_240, 9_437_184, 68_277),
    "wide_resnet101_2": (126_886_696, 9_437_184, 137_960),
    "convnext_tiny": (28_589_128, 2_362_368, 0),
    "convnext_small": (50_223_688, 2_362_368, 0),
    "convnext_base": (88_591_464, 4_198_400, 0),
    "convnext_large": (197_767_336, 9_443_328, 0),
    "convnext_nano": (15_593_560, 1_640_960, 0),
    "efficientnet_b0": (5_288_548, 1_281_000, 42_065),
    "efficientnet_b1": (7_794_184, 1_281_000, 62_117),
    "efficientnet_b2": (9_109_994, 1_409_000, 67_637),
    "efficientnet_b3": (12_233_232, 1_537_000, 87_374),
    "efficientnet_b4": (19_341_616, 1_793_000, 125_296),
    "efficientnet_b5": (30_389_784, 2_049_000, 172_852),
    "efficientnet_b6": (43_040_704, 2_305_000, 224_566),
    "efficientnet_b7": (66_347_960, 2_561_000, 310_883),
    "vit_tiny_patch16_224": (5_717_416, 193_000, 0),
    "vit_small_patch16_224": (22_050_664, 591_360, 0),
    "vit_small_patch32_224": (22_878_952, 1_180_032, 0),
    "vit_base_patch16_224": (86_567_656, 2_362_368, 0),
    "vit_base_patch32_224": (88_224_232, 2_362_368, 0),
    "vit_large_patch16_224": (304_326_632, 4_198_400, 0),
    "vit_large_patch32_224": (305_510_400, 4_198_400, 0),
    "vit_large_patch14_224": (304_203_752, 4_198_400, 0),
    "vit_huge_patch14_224": (630_764_800, 6_558_720, 0),
    "deit_base_patch16_224": (86_567_656, 2_362_368, 0),
    "deit_base_distilled_patch16_224": (87_338_192, 2_362_368, 0),
    "swin_tiny_patch4_window7_224": (28_288_354, 2_362_368, 249_704),
    "swin_small_patch4_window7_224": (49_606_258, 2_362_368, 336_140),
    "swin_base_patch4_window7_224": (87_768_224, 4_198_400, 336_140),
    "swin_large_patch4_window12_384": (196_735_516, 9_443_328, 2_903_040),
    "mobilenetv2_100": (3_504_872, 1_281_000, 34_164),
    "mobilenetv2_140": (6_108_776, 1_793_000, 47_988),
    "mobilenetv2_120d": (5_831_144, 1_281_000, 63_855),
    "mobilenetv3_large_100": (5_483_032, 1_281_000, 24_446),
    "mobilenetv3_small_100": (2_542_856, 1_025_000, 12_146),
    "mobilenetv3_small_050": (1_593_224, 1_025_000, 6_530),
    "densenet121": (7_978_856, 1_025_000, 83_769),
    "densenet161": (28_681_000, 2_230_272, 220_097),
    "densenet169": (14_149_480, 1_665_000, 158_569),
    "densenet201": (20_013_928, 1_921_000, 229_257),
    "vgg11": (132_863_336, 102_764_544, 0),
    "vgg13": (133_047_848, 102_764_544, 0),
    "vgg16": (138_357_544, 102_764_544, 0),
    "vgg19": (143_667_240, 102_764_544, 0),
    "vgg16_bn": (138_365_992, 102_764_544, 8_461),
    "regnetx_004": (5_157_512, 385_000, 36_743),
    "regnetx_032": (15_296_552, 1_016_064, 62_640),
    "regnety_004": (4_344_144, 441_000, 27_205),
    "regnety_032": (19_436_338, 2_286_144, 66_228),
    "regnety_160": (83_590_140, 9_144_576, 122_875),
}


def largest(plan):
    modules = defaultdict(int)
    for p in plan.params:
        modules[p.name.rpartition(".")[0]] += p.numel
    return max(modules.values())


@all_of("name", FACTS)
def test_parameters_largest_module_and_buffers(name):
    plan = timm_nets.blueprint(name)
    buffers = sum(prod(b.shape) for b in plan.buffers)
    assert (plan.parameters, largest(plan), buffers) == FACTS[name]


# Millions of parameters as timm's own table of results prints them (results/results-imagenet.csv)
PRINTED = {
    "convnext_atto": 3.70,
    "convnext_femto": 5.22,
    "convnext_pico": 9.05,
    "convnext_xlarge": 350.20,
    "regnetx_002": 2.68,
    "regnetx_006": 6.20,
    "regnetx_008": 7.26,
    "regnetx_016": 9.19,
    "regnetx_040": 22.12,
    "regnetx_064": 26.21,
    "regnetx_080": 39.57,
    "regnetx_120": 46.11,
    "regnetx_160": 54.28,
    "regnetx_320": 107.81,
    "regnety_002": 3.16,
    "regnety_006": 6.06,
    "regnety_008": 6.26,
    "regnety_016": 11.20,
    "regnety_040": 20.65,
    "regnety_064": 30.58,
    "regnety_080": 39.18,
    "regnety_120": 51.82,
    "regnety_320": 145.05,
}


@pytest.mark.parametrize("name", PRINTED)
def test_parameters_are_those_that_timm_prints(name):
    assert round(timm_nets.blueprint(name).parameters / 1e6, 2) == PRINTED[name]


# What torchvision's own models differ in from timm's: its rounding of widths
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("regnetx_004_tv", 5_495_976),
        ("regnety_008_tv", 6_432_512),
        ("regnety_080_tv", 39_381_472),
    ],
)
def test_widths_as_torchvision_rounds_them(name, parameters):
    assert timm_nets.blueprint(name).parameters == parameters
    assert timm_nets.blueprint(name.removesuffix("_tv")).parameters != parameters


# Tags


@all_of(
    ("tag", "classes"),
    [
        ("", 1000),
        (".a1_in1k", 1000),
        (".augreg_in21k_ft_in1k", 1000),
        (".fb_in22k_ft_in1k_384", 1000),
        (".sw_in12k", 11_821),
        (".augreg_in21k", 21_843),
        (".fb_in22k", 21_841),
        (".dino", 0),
    ],
)
def test_a_tag_says_how_many_classes_there_are(tag, classes):
    plan = timm_nets.blueprint(f"vit_base_patch16_224{tag}")
    headless = timm_nets.blueprint("vit_base_patch16_224", 0).parameters
    assert plan.parameters == headless + classes * 769


@all_of("name", ["resnet51", "resnet50x", "resnet50.own", "vgg16_bn_bn", ""])
def test_what_no_rule_knows_is_not_guessed(name):
    assert timm_nets.blueprint(name) is None


def test_a_config_says_how_many_classes_there_are():
    config = {"architecture": "resnet50", "num_classes": 10}
    assert timm_nets.of_config(config).parameters == 25_557_032 - 990 * 2049
    for wrong in (-1, "10", 10**9, True):
        with pytest.raises(BadFileError, match="num_classes"):
            timm_nets.of_config({**config, "num_classes": wrong})


# transformers' wrapper


def wrapped(**config):
    return Config({"model_type": "timm_wrapper", **config})


def test_the_wrapper_and_its_headless_class():
    c = {"architecture": "resnet50", "num_classes": 1000}
    assert blueprint(wrapped(**c)).parameters == 25_557_032
    assert blueprint(wrapped(**c), base_model=True).parameters == 25_557_032 - 1000 * 2049
    with pytest.raises(UnsupportedError, match="resnet51"):
        blueprint(wrapped(architecture="resnet51"))


@all_of("name", [n for n in catalogue.names() if catalogue.find(n).repo_id.startswith("timm/")])
def test_an_entry_of_the_catalogue_is_named_as_timm_names_it(name):
    entry = catalogue.find(name)
    architecture = entry.config["architecture"]
    assert name == architecture.replace("_", "-")
    assert entry.repo_id.removeprefix("timm/").partition(".")[0] == architecture
    assert timm_nets.blueprint(entry.repo_id.removeprefix("timm/")) == timm_nets.of_config(
        entry.config
    )


def block(path, width):
    return [
        (f"{path}.conv.weight", "conv", (4 * width, width, 3, 3)),
        (f"{path}.norm.scale", "norm", (width,)),
        (f"{path}.norm.count", "int64!", ()),
    ]


def network(*widths, classes):
    tensors = [one for n, width in enumerate(widths) for one in block(f"stages.{n}", width)]
    return [*tensors, ("head.weight", "linear", (classes, widths[-1]))]


@pytest.mark.parametrize("widths", [(8, 8, 8, 16), (24, 24, 48), (7,)])
def test_a_folded_network_reads_back_as_it_was(widths, monkeypatch):
    forest = record_timm.Forest()
    known = [(8, 8, 8, 16), (24, 24, 48), (7,)]
    trees = {one: forest.grow(network(*one, classes=record_timm.CLASSES)) for one in known}
    folded = record_timm.Folded(forest)
    lines = dict(line.split(" ", 1) for line in folded.lines())
    monkeypatch.setattr(timm_nets, "_modules", lambda: lines)
    monkeypatch.setattr(
        timm_nets, "_names", lambda: {"drawn": f"Net {folded.call(trees[widths])} - =10"}
    )
    monkeypatch.setattr(timm_nets, "find", timm_nets.find.__wrapped__)
    monkeypatch.setattr(timm_nets, "_build", timm_nets._build.__wrapped__)
    plan = timm_nets.blueprint("drawn")
    expected = network(*widths, classes=10)
    assert [(p.name, p.kind, p.shape) for p in plan.params] == [
        one for one in expected if "!" not in one[1]
    ]
    assert [(b.name, b.dtype, b.shape, b.persistent) for b in plan.buffers] == [
        (name, "int64", shape, False) for name, kind, shape in expected if "!" in kind
    ]
