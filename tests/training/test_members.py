"""What a class holds before any rank has its share: experts are counted, and told where they must
be."""

from math import prod

import pytest

from weighbridge import prepare
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.units import GIB
from weighbridge.engines.transformers.rules import placement_order
from weighbridge.models import catalogue
from weighbridge.models.quantization.schemes import scheme, stored
from weighbridge.training.build import _packed
from weighbridge.training.parameters import members

MIXTURES = ("deepseek-v2-lite", "mixtral-8x7b", "gpt-oss-20b")


def of(name):
    return prepare(dict(catalogue.find(name).config))


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("form", ["nf4", "bnb-int8", "hqq-4bit-g64"])
@pytest.mark.parametrize("major", [4, 5])
def test_packed_parameters_are_those_that_are_stored_one_by_one(name, form, major):
    """In the same order, with the same bytes: like experts are packed once, and told by number."""
    part = of(name).model().parts[0]
    found: dict[str, list[int]] = {}
    for t in stored(part.blueprint, scheme(form), dtype=BFLOAT16, transformers=major):
        found.setdefault(t.source, []).append(t.nbytes)
    expected = {source: tuple(sizes) for source, sizes in found.items() if len(sizes) > 1}
    got = _packed(Asked(part, scheme(form), major))
    assert list(got.items()) == list(expected.items())
    assert expected


class Asked:
    """What of a plan decides it."""

    def __init__(self, part, form, major):
        self.subject = self.choice = self
        self.part, self.scheme, self.major, self.loaded = part, form, major, BFLOAT16
        self.facts = (form.name,)


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("major", [4, 5])
def test_members_come_to_the_device_children_first(name, major):
    found = members(of(name).model().parts[0].blueprint, major=major)
    names = [h.name for h in found.specs]
    order = placement_order((n.rpartition(".")[0], n) for n in names)
    assert [names[i] for i in found.placed] == order
    numbers = {n.split(".layers.")[1].partition(".")[0] for n in names if ".layers." in n}
    assert found.layers == {"model.layers": tuple(sorted(map(int, numbers)))}


@pytest.mark.slow
def test_what_was_asked_before_decides_nothing():
    """Versions 4 and 5 hold other parameters of one class."""
    asked = of("granite-3.1-1b-a400m")
    questions = [
        {"method": "lora", "lora_targets": "all-linear", "engine_version": "4.45"},
        {"method": "qlora", "engine_version": "4.45"},
        {},
        {"method": "lora", "lora_targets": "q_proj"},
        {"shard": "fsdp2", "gpu": "h100:8"},
    ]
    given = [{**q, "seq_len": 64} for q in questions]
    alone = [of("granite-3.1-1b-a400m").train(**q).to_dict() for q in given]
    again = [asked.train(**q).to_dict() for q in reversed([*given, *given])]
    assert again == [*reversed(alone), *reversed(alone)]


# ---- all of a class is there


@pytest.mark.parametrize("major", [4, 5])
@pytest.mark.parametrize(
    "name", [*MIXTURES, "ernie-4.5-vl-28b-a3b", "gemma-4-26b-a4b", "olmoe-1b-7b"]
)
def test_stacks_have_every_number_of_the_class(name, major):
    blueprint = of(name).model().parts[0].blueprint
    assert sum(prod(h.shape) for h in members(blueprint, major=major).specs) == blueprint.parameters


def test_experts_of_two_widths_are_two_stacks():
    """Ernie 4.5 VL has 64 experts of text, 1,536 wide, and 64 of pictures, 512 wide."""
    found = members(of("ernie-4.5-vl-28b-a3b").model().parts[0].blueprint, major=5)
    shapes = [h.shape for h in found.specs if h.kind == "experts" and ".layers.1." in h.name]
    assert shapes == [(64, 3072, 2560), (64, 2560, 1536), (64, 1024, 2560), (64, 2560, 512)]


@pytest.mark.slow
def test_a_model_of_two_widths_as_it_was_loaded():
    """unslothai/notebooks, ERNIE 4.5 VL by LoRA in 16 bits on an A100: 56.05 GiB were reserved when
    it was loaded; the first stack alone is 42.2."""
    asked = {"framework": "unsloth", "method": "lora", "lora_r": 8, "gpu": "a100-80gb"}
    report = prepare("ernie-4.5-vl-28b-a3b").train(**asked, batch_size=2, remedies=False)
    load = report.devices[0].phases[0].at("reserved")
    assert load.low < 56.05 * GIB < load.high
    assert load.expected == pytest.approx(56.05 * GIB, rel=0.03)
