"""Like experts are one record with a count, and told one by one they are what they always were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.units import MIB
from weighbridge.engines.transformers.placement import deal
from weighbridge.engines.transformers.rules import placement_order
from weighbridge.machines.allocator import Allocator
from weighbridge.memory.components.device import replay
from weighbridge.memory.components.weights import (
    FormatChoice,
    PlacedTensor,
    apart,
    placed,
    together,
    total,
)
from weighbridge.models.arch.blueprint import (
    Blueprint,
    CountedParams,
    Param,
    experts,
    last_name,
    linear,
    told,
)
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.declared import declared
from weighbridge.models.quantization.schemes import counted, stored


def _one(at):
    yield from linear(f"{at}.up", 6, 4)
    yield from linear(f"{at}.down", 4, 6, bias=True)


def _layer(i, count):
    yield Param(f"layers.{i}.norm.weight", (4,), "norm")
    yield from experts(f"layers.{i}.mlp.experts.", _one, top_k=2, count=count)
    yield Param(f"layers.{i}.mlp.gate.weight", (count, 4), "router")


PLAN = Blueprint(
    cls="Two",
    params=CountedParams((*_layer(0, 3), *_layer(1, 2))),
    blocks=("layers.*",),
)
NAMES = [
    "layers.0.norm.weight",
    *(
        f"layers.0.mlp.experts.{i}.{end}"
        for i in range(3)
        for end in ("up.weight", "down.weight", "down.bias")
    ),
    "layers.0.mlp.gate.weight",
    "layers.1.norm.weight",
    *(
        f"layers.1.mlp.experts.{i}.{end}"
        for i in range(2)
        for end in ("up.weight", "down.weight", "down.bias")
    ),
    "layers.1.mlp.gate.weight",
]


def test_experts_are_counted_and_told_one_by_one():
    assert [p.name for p in PLAN.params] == NAMES
    assert len(PLAN.params) == 19
    assert len(PLAN.counted) == 10
    assert {p.copies for p in PLAN.params} == {1}
    assert PLAN.params[-1].name == "layers.1.mlp.gate.weight"
    assert [p.routed for p in PLAN.params[1:4]] == [(2, 3)] * 3


def test_parameters_are_those_of_all():
    """Norms 2 x 4, routers 3 x 4 + 2 x 4, five experts of 24 + 24 + 4."""
    assert PLAN.parameters == 8 + 20 + 5 * 52
    assert {p.name: n for p, n in PLAN.distinct()}["layers.0.mlp.experts.0.up.weight"] == 3


def test_the_last_of_what_is_counted():
    assert last_name(PLAN.counted[1]) == "layers.0.mlp.experts.2.up.weight"
    assert last_name(PLAN.counted[0]) == "layers.0.norm.weight"


def test_experts_without_a_number_behind_experts_are_not_counted():
    """Switch Transformers: experts.expert_0."""
    made = list(experts("mlp.experts.expert_", _one, top_k=1, count=2))
    assert [p.copies for p in made] == [1] * 6
    assert made[3].name == "mlp.experts.expert_1.up.weight"
    assert not list(experts("mlp.experts.", _one, top_k=1, count=0))


def test_told_twice_is_told_once():
    assert list(told(told(PLAN.counted))) == list(PLAN.params)


def test_counted_tensors_are_the_stored_ones():
    form = declared({"quant_method": "gptq", "bits": 4, "group_size": 2})
    every = [t.nbytes for t in stored(PLAN, form, dtype=BFLOAT16)]
    found = list(counted(PLAN, form, dtype=BFLOAT16))
    assert len(found) < len(every)
    assert sum(t.nbytes * n for t, n in found) == sum(every)


def test_a_config_that_names_one_expert_has_them_apart():
    """Expert 1 of layer 0 stays plain: 24 values of 2 bytes, twice, against 24 of one byte."""
    fp8 = {"quant_method": "fp8"}
    both = declared(fp8), declared(fp8 | {"modules_to_not_convert": ["layers.0.mlp.experts.1"]})
    assert [form.by_expert for form in both] == [False, True]
    sizes = [sum(t.nbytes * n for t, n in counted(PLAN, form, dtype=BFLOAT16)) for form in both]
    names = {t.source for t, _ in counted(PLAN, both[1], dtype=BFLOAT16)}
    assert "layers.0.mlp.experts.1.up.weight" in names
    plain = {t.source: t.dtype.name for t, _ in counted(PLAN, both[1], dtype=BFLOAT16)}
    assert plain["layers.0.mlp.experts.1.up.weight"] == "bfloat16"
    assert sizes[1] > sizes[0]


def _placed(count):
    yield PlacedTensor("embed", 9, "weights")
    for module, nbytes in (("up", 3 * MIB), ("up", 512), ("down", 3 * MIB + 7)):
        yield PlacedTensor(f"layers.0.experts.0.{module}", nbytes, "weights", count)
    yield PlacedTensor("layers.0.norm", 8, "weights")


def test_together_and_apart():
    groups = [(n, len(group)) for n, group in together(_placed(4))]
    assert groups == [(1, 1), (4, 3), (1, 1)]
    modules = [t.module for t in apart(_placed(2))]
    one = [f"layers.0.experts.{i}.{name}" for i in range(2) for name in ("up", "up", "down")]
    assert modules == ["embed", *one, "layers.0.norm"]


@pytest.mark.slow
@given(count=st.integers(1, 30), sizes=st.lists(st.integers(1, 30 * MIB), min_size=1, max_size=5))
def test_the_replay_of_counted_tensors_is_that_of_all(count, sizes):
    tensors = [
        PlacedTensor("a.norm", 100, "weights"),
        *(PlacedTensor(f"a.experts.0.m{i}", n, "weights", count) for i, n in enumerate(sizes)),
        PlacedTensor("a.last", 5 * MIB, "weights"),
    ]
    every = list(apart(tensors))
    for order in (None, placement_order):
        found, full = replay(tensors, order), Allocator()
        if order is None:
            full.free(full.malloc(total(tensors, "weights")))
        for t in every if order is None else order((t.module, t) for t in every):
            full.malloc(t.nbytes)
        assert (found.allocated, found.reserved) == (full.allocated, full.reserved)


def test_layers_that_are_not_kept_whole_are_dealt_expert_by_expert():
    tensors = [*_placed(4)]
    whole = deal(tensors, ["layers.*"], layers=1, devices=2)
    split = deal(tensors, [], layers=1, devices=2)
    size = total(tensors, "weights")
    assert sum(total(share.tensors, "weights") for share in whole) == size
    assert split == deal(list(apart(tensors)), [], layers=1, devices=2)
    assert max(total(s.tensors, "weights") for s in split) < size


def test_a_part_places_all_its_experts():
    part = ModelPart(name="", blueprint=PLAN, config={})
    found = list(placed(part, FormatChoice(dtype=BFLOAT16), major=5))
    assert total(found, "weights") == 2 * PLAN.parameters
    assert len(list(apart(found))) == 19
