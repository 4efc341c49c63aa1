"""Small rules of engines, both sides of each: releases of transformers, ranks, slots, placements."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.units import MIB
from weighbridge.engines.launch import parse
from weighbridge.engines.llama_cpp import answers
from weighbridge.engines.llama_cpp.graphs.build import thinned
from weighbridge.engines.llama_cpp.placement import LayerPlacement
from weighbridge.engines.mlx import infer as mlx
from weighbridge.engines.ollama import effective as ollama
from weighbridge.engines.ollama import layer_formula
from weighbridge.engines.parallel import cuts
from weighbridge.engines.parallel.pieces import TensorPiece, sides
from weighbridge.engines.parallel.rules import Spread
from weighbridge.engines.servers import communication
from weighbridge.engines.sglang import card_defaults
from weighbridge.engines.transformers import derived, placement
from weighbridge.engines.transformers import rules as transformers
from weighbridge.engines.vllm import cases
from weighbridge.models.arch.mixers import Attention, Latent
from weighbridge.settings.ranks import Ranks

# transformers: the last release without, the first with a rule, of a class as Llama's


@all_of(
    ("rule", "before", "since"),
    [
        ("scores_returned", (4, 47), (4, 48)),
        ("second_head", (4, 48), (4, 49)),
        ("warms_up", (4, 49), (4, 50)),
        ("groups_told", (4, 54), (4, 55)),
        ("sliding_cache", (4, 55), (4, 56)),
        ("copied_prompt", (4, 55), (4, 56)),
        ("says_dtype", (4, 55), (4, 56)),
        ("stacked_experts", (4, 57), (5, 0)),
        ("ties_at_once", (4, 57), (5, 0)),
        ("batched_experts", (4, 57), (5, 0)),
        ("packs_queries", (5, 13), (5, 14)),
        ("latent_cache", (5, 14), (5, 15)),
        ("towers_kept", (5, 18), (5, 19)),
    ],
)
def test_what_came_with_a_release_of_transformers(rule, before, since):
    assert not getattr(transformers.rules(before, "llama"), rule)
    assert getattr(transformers.rules(since, "llama"), rule)


@all_of(
    ("rule", "last", "gone"),
    [
        ("outputs_kept", (4, 41), (4, 42)),
        ("float_logits", (4, 45), (4, 46)),
        ("sdpa_repeats", (4, 54), (4, 55)),
        ("sdpa_copies", (4, 54), (4, 55)),
        ("second_head", (4, 57), (5, 0)),
        ("groups_told", (5, 12), (5, 13)),
    ],
)
def test_what_went_with_a_release_of_transformers(rule, last, gone):
    assert getattr(transformers.rules(last, "llama"), rule)
    assert not getattr(transformers.rules(gone, "llama"), rule)


def test_releases_of_other_rules_of_transformers():
    assert not transformers.rules((4, 47), "llama").sdpa_copies
    assert transformers.rules((4, 48), "llama").sdpa_copies
    assert not transformers.rules((5, 13), "llama", inner=True).batched_experts
    assert transformers.rules((5, 14), "llama", inner=True).batched_experts
    assert transformers.has_auto_gptq((4, 47)) and not transformers.has_auto_gptq((4, 48))
    assert transformers.unpacks_float8((5, 0)) and not transformers.unpacks_float8((4, 57))
    assert transformers.kernel(None, "eager") == "eager"
    assert transformers.kernel("flash", "eager") == "flash"
    with pytest.raises(UsageError, match="is not known"):
        transformers.kernel("fast", "sdpa")


# Ranks


@all_of(
    ("spread", "attention", "shared", "group"),
    [
        (Spread(), 1, False, (1, 1)),
        (Spread(tensor=4), 4, False, (4, 1)),
        (Spread(tensor=4, groups=2), 2, False, (4, 1)),
        (Spread(tensor=2, data=3), 2, False, (6, 1)),
        (Spread(tensor=2, data=3, expert_parallel=True), 2, True, (1, 6)),
        (Spread(tensor=2, expert_parallel=True), 2, False, (1, 2)),
        (Spread(data=3, expert_parallel=True), 1, False, (1, 3)),
    ],
)
def test_ranks_that_share_attention_tokens_and_experts(spread, attention, shared, group):
    rules = SimpleNamespace(replicas_share=True, kernel=lambda major: None)
    assert (spread.attention, spread.tokens_shared) == (attention, shared)
    found = spread.group(rules)
    assert (found.width, found.number) == group
    own = spread.group(SimpleNamespace(replicas_share=False, kernel=lambda major: None))
    assert own.width * own.number == spread.tensor


@pytest.mark.parametrize("sizes", [{"tensor": 0}, {"pipeline": 0}, {"tensor": 4, "groups": 3}])
def test_ranks_that_cannot_be(sizes):
    with pytest.raises(UsageError):
        Spread(**sizes)


@all_of(
    ("kind", "end", "shape", "has"),
    [
        ("bias", "weight", (8,), (True, False)),
        ("conv", "weight", (8, 1, 4), (True, True)),
        ("linear", "weight", (8, 4), (True, True)),
        ("linear", "weight_scale", (8,), (True, False)),
        ("linear", "weight_scale", (8, 1), (True, False)),  # of a row
        ("linear", "weight_scale", (8, 2), (True, True)),  # of a group
        ("linear", "weight_scale", (1,), (False, False)),  # of all
        ("linear", "weight", (3,), (False, False)),  # a number for each of three experts
    ],
)
def test_sides_of_a_matrix_that_a_tensor_has(kind, end, shape, has):
    param = SimpleNamespace(kind=kind, routed=(1, 3), name="x.weight")
    assert sides(TensorPiece(param, end, shape, 1, 1)) == has


@pytest.mark.parametrize(
    ("mixer", "heads"),
    [
        (Attention(heads=8, kv_heads=2, key_dim=64, value_dim=64), (8, 2)),
        (Latent(heads=8, rank=512, rotary=64, nope=128, value_dim=128), (8, 8)),
    ],
)
def test_heads_by_which_weights_are_split(mixer, heads):
    assert cuts.heads_of(mixer) == heads


@pytest.mark.parametrize(
    ("ranks", "capability", "there"),
    [
        (1, (9, 0), False),
        (2, (8, 6), True),
        (3, (9, 0), False),
        (4, (8, 6), False),  # more than two cards without a switch
        (4, (9, 0), True),
        (8, (8, 0), True),
        (16, (9, 0), False),
        (4, None, True),
    ],
)
def test_ranks_of_an_engines_own_all_reduce(monkeypatch, ranks, capability, there):
    monkeypatch.setattr(communication, "_buffer", lambda by, ranks, capability: 3 * MIB)
    by = SimpleNamespace(engine="vllm", scatter=MIB, symmetric=False)
    found = list(communication._custom(by, ranks, capability))
    assert [c.bytes.expected for c in found] == ([6 * MIB, 8 * MIB] if there else [])
    by.scatter = 5 * MIB
    more = list(communication._custom(by, ranks, capability))
    assert [c.bytes.expected for c in more] == ([8 * MIB, 8 * MIB] if there else [])


def test_what_a_later_stage_keeps_of_what_it_is_sent():
    """Hidden states and residuals of 7 tokens, 100 wide, in 16 bits."""
    assert communication.received(7, 100).bytes.expected == 2 * 7 * 100 * 2


@pytest.mark.parametrize(
    ("settings", "all_", "alone"),
    [
        ({}, 1, 1),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 3}, 6, 6),
        ({"tensor_parallel_size": 2, "data_parallel_size": 4}, 8, 2),
        ({"tensor_parallel_size": 0, "data_parallel_size": 0}, 1, 1),
    ],
)
def test_devices_of_all_ranks(settings, all_, alone):
    ranks = Ranks.of(settings)
    assert (ranks.cards, ranks.copy) == (all_, alone)


# llama.cpp


@all_of(
    ("said", "context", "slots", "warned"),
    [
        ("", None, None, False),
        ("-c 4096", 4096, None, False),
        ("-c 4096 -np 1", 4096, 1, False),
        ("-c 4096 -np 2", 2048, 2, False),
        ("-c 3 -np 4", 1, 4, False),
        ("-c 4096 -np -1", 4096, None, False),
        ("-c 4096 -np 2 -kvu", 4096, 2, False),
        ("-c 0 -np 2", None, 2, True),
        ("-np 1", None, 1, False),
        ("-np 2 -kvu", None, 2, False),
        ("-c 1", 1, None, False),
    ],
)
def test_context_and_slots_of_a_command(said, context, slots, warned):
    found = parse(f"llama-server -m x.gguf {said}")
    assert (found.settings.get("context"), found.settings.get("parallel")) == (context, slots)
    assert any("slots share" in line for line in found.warnings) is warned


@all_of(
    ("kinds", "chosen"),
    [
        ("abc", [0, 1, 2]),
        ("aaaaaa", [0, 1, 2, 3, 4, 5]),
        ("aaaaaaa", [0, 1, 2, 3, 4, 5, 6]),
        ("aaaaaaaa", [0, 1, 2, 3, 6, 7]),  # behind a start of four two are left out, then four
        ("aaaaaaaaa", [0, 1, 2, 3, 8]),
        ("ab" * 6, [0, 1, 2, 3, 8, 9, 10, 11]),
        ("ba" + "a" * 8, [0, 1, 2, 3, 4, 9]),
    ],
)
def test_layers_that_decide_the_buffers(kinds, chosen):
    assert thinned(kinds) == chosen


# mlx


@pytest.mark.parametrize(
    ("tokens", "whole", "large", "made"),
    [
        (1, False, True, (False, mlx.CHUNK, mlx.COMMITS)),
        (2, False, True, (True, mlx.CHUNK, mlx.COMMITS)),
        (7, True, False, (True, 7, mlx.COMMITS_OF_OTHERS)),
    ],
)
def test_a_moment_of_a_prompt_and_of_one_token(monkeypatch, tokens, whole, large, made):
    monkeypatch.setattr(mlx.Run, "_stored", True)
    monkeypatch.setattr(mlx.Run, "bits", 4.5)
    rules = SimpleNamespace(whole_scans=whole)
    plan = SimpleNamespace(rules=rules, context=9, expanded=False, large=large)
    found = mlx.Run(subject=None, plan=plan).moment(tokens)
    assert (found.stored, found.scanned, found.most) == made
    assert (found.tokens, found.cells, found.bits) == (tokens, 9, 4.5)


# Ollama before 0.30


def reckoned(layers=4, weight=10, cache=2, graphs=(3, 5), output=7):
    net = SimpleNamespace(layers=[None] * layers)
    return SimpleNamespace(
        net=net, layer=lambda i: weight, caches=(cache,) * layers, graphs=graphs, output=output
    )


@pytest.fixture
def least(monkeypatch):
    monkeypatch.setattr(layer_formula, "MINIMUM", 100)
    monkeypatch.setattr(layer_formula, "MINIMUM_ON_METAL", 200)


@pytest.mark.parametrize(
    ("free", "more", "layers", "cards", "overflow"),
    [
        # 100 kept free, a first layer of 12, four of 12, an output of 7, the graph of all layers: 5
        ((1000,), {}, [5], [100 + 5 * 12 + 7 + 5], 0),
        # a graph of 5, the least, and two first layers must have room
        ((128,), {}, [0], [0], 4 * 12 + 7),
        ((129,), {}, [0], [112], 4 * 12 + 7),
        ((130,), {}, [1], [112 + 12 + 3], 3 * 12 + 7),
        ((1000,), {"most": 2}, [2], [112 + 24 + 3], 2 * 12 + 7),
        ((1000,), {"most": 0}, [0], [112], 4 * 12 + 7),
        ((1000,), {"metal": True}, [5], [200 + 5 * 12 + 7 + 5], 0),
        # several cards take layers in turn, each with the graph of some layers
        ((1000, 1000), {}, [3, 2], None, 0),
    ],
)
def test_layers_go_to_cards_that_have_room(least, free, more, layers, cards, overflow):
    placed = layer_formula.place(reckoned(), free, **more)
    assert (placed.layers, placed.overflow) == (layers, overflow)
    assert cards is None or placed.cards == cards
    assert placed.size == sum(placed.cards) + overflow
    assert placed.on_cards == (sum(placed.cards) if sum(layers) else 0)


# Tokens


@all_of(
    ("prompt", "shared", "caching", "requests", "tokens"),
    [
        (100, None, True, 4, 400),
        (100, 30, True, 4, 30 + 4 * 70),
        (100, 30, False, 4, 400),
        (100, 100, True, 4, 99 + 4),  # a token of each is its own
        (None, 30, True, 1, 150),
    ],
)
def test_tokens_that_requests_bring_at_once(prompt, shared, caching, requests, tokens):
    """A shared prefix is computed once; without a prompt's length the context is one."""
    launch = SimpleNamespace(prefix_caching=caching)
    point = SimpleNamespace(prompt_len=prompt, context=150)
    workload = SimpleNamespace(shared_prefix=shared)
    assert cases.prompt_tokens(launch, workload, point, requests) == tokens


@all_of(("usable", "tokens"), [(1000, 2220), (310, 150), (270, 30), (261, 3), (260, 0), (100, 0)])
def test_tokens_whose_cache_fits_beside_all_else(usable, tokens):
    """Two requests of 75 tokens have 50 bytes of a cache, three tokens a byte; all else takes 260."""
    parts = (("weights", 200), ("kv_cache", 30), ("kv_cache", 20), ("context", 60))
    made = tuple(Component(name=n, bytes=exactly(b), basis="computed") for n, b in parts)
    found = Device(index=0, kind="gpu", phases=(Instant("load", ()), Instant("decode", made)))
    plan = SimpleNamespace(context=75, prompt=SimpleNamespace(batch=2))
    room = Bytes(0, usable, 9999)
    assert derived._tokens(found, plan, room) == tokens


def test_what_is_largest_behind_each():
    assert placement._to_come([3, 9, 4, 1]) == [9, 4, 1, 0]
    assert placement._to_come([]) == []


# llama.cpp: what fits, by GPU


@dataclass
class Held:
    """Layers of 10 bytes with 2 of a cache, of which experts are 4; all else takes 5."""

    launch: SimpleNamespace
    net: SimpleNamespace

    @property
    def weights(self):
        moved = min(self.launch.cpu_moe, self.launch.gpu_layers)
        return [10 * self.launch.gpu_layers - 4 * moved] * self.launch.gpus

    def kv(self, device):
        return 2 * self.launch.gpu_layers


@pytest.fixture
def held(monkeypatch):
    monkeypatch.setattr(answers, "fixed", lambda holdings, device: 5 + device)
    monkeypatch.setattr(answers, "_proposed", lambda holdings, device: 0)
    monkeypatch.setattr(
        answers,
        "replace",
        lambda one, **changes: type(one)(**{**vars(one), **changes}),
    )
    tensor = SimpleNamespace(nbytes=3)
    net = SimpleNamespace(layers=[None] * 4, weights={"blk.0.ffn_up_exps.weight": tensor})
    launch = SimpleNamespace(gpus=1, gpu_layers=5, layers=5, cpu_moe=0, n_ctx=100)
    return Held(launch, net)


@pytest.mark.parametrize(
    ("room", "count"), [(4, 0), (16, 0), (17, 1), (28, 1), (29, 2), (64, 4), (65, 5), (999, 5)]
)
def test_layers_that_a_gpu_has_room_for(held, room, count):
    """12 bytes a layer, and 5 beside: the output is one."""
    assert answers.layers(held, [room]) == count


@pytest.mark.parametrize(
    ("room", "count"), [(68, 0), (67, 1), (64, 1), (63, 2), (60, 2), (52, 4), (51, None)]
)
def test_layers_whose_experts_go_to_the_host(held, room, count):
    """All 60 bytes of layers with caches, less 4 for the experts of each; 5 beside, and the largest
    of their tensors, 3, which is brought to the GPU."""
    assert answers.experts(held, [room]) == count


@pytest.mark.parametrize(
    ("rooms", "cells"), [([55 + 26], 256), ([55 + 51], 256), ([55 + 52], 512), ([54], 0)]
)
def test_cells_that_fit_in_whole_blocks_of_256(held, rooms, cells):
    """A tenth of a byte each; weights take 50, all else 5."""
    assert answers.tokens(held, rooms) == cells


@pytest.mark.parametrize(
    ("ends", "layers"),
    [
        ((0.5, 1.0), [0, 0, 0, 1, 1]),
        ((0.4, 1.0), [0, 0, 1, 1, 1]),  # the third begins where the first GPU ends
        ((0.4, 0.7), [0, 0, 1, 1, 1]),  # shares that were rounded leave none behind the last
    ],
)
def test_layers_go_to_gpus_by_their_shares(ends, layers):
    launch = SimpleNamespace(layers=6, gpu_layers=5, gpus=2, split_mode="layer", main_gpu=1)
    placed = SimpleNamespace(launch=launch, ends=ends, host=2)
    assert [LayerPlacement._layer(placed, i) for i in range(6)] == [2, *layers]
    launch.split_mode = "row"
    assert [LayerPlacement._layer(placed, i) for i in range(6)] == [2, 1, 1, 1, 1, 1]
    launch.gpu_layers = 0
    assert [LayerPlacement._layer(placed, i) for i in range(6)] == [2] * 6


# Ollama's formula, where an architecture has none of its own


@pytest.mark.parametrize(
    ("known", "graphs"),
    [
        (None, (4 * 90 // 6, 4 * 90 // 6)),  # four query heads share one of keys
        (lambda reckoned: (7, 9), (7, 9)),
        (lambda reckoned: (7, 0), (7, 7)),
        (lambda reckoned: (0, 9), (4 * 90 // 6, 9)),
    ],
)
def test_graphs_of_some_layers_and_of_all(monkeypatch, known, graphs):
    monkeypatch.setattr(layer_formula, "GRAPHS", {"a": known} if known else {})
    found = SimpleNamespace(net=SimpleNamespace(arch="a"), heads=8, kv_heads=2, caches=(40, 50))
    assert layer_formula.Reckoned.graphs.func(found) == graphs


@pytest.mark.parametrize(
    ("main_gpu", "cards", "split", "layers", "alone"),
    [
        (None, 2, None, [5], 0),
        (None, 2, None, [4], None),  # without the output
        (None, 2, "layer", [5], None),
        (None, 1, None, [5], None),
        (1, 2, None, [5], 1),
        (1, 1, None, [5], 1),
    ],
)
def test_the_one_card_that_holds_all(monkeypatch, main_gpu, cards, split, layers, alone):
    placed = SimpleNamespace(layers=layers)
    monkeypatch.setattr(ollama, "by_formula", lambda *more, **count: placed)
    workload = SimpleNamespace(main_gpu=main_gpu, parallel=None, split_mode=split)
    budget = SimpleNamespace(choice=SimpleNamespace(count=cards))
    net = SimpleNamespace(layers=[None] * 4)
    assert ollama._alone(workload, budget, net) == alone
    assert ollama._alone(workload, None, net) == main_gpu


# SGLang: the attention that a launch has where nobody says

NEW, BEFORE = (0, 5, 9), (0, 5, 8)  # TensorRT-LLM's is that of data-centre Blackwell since 0.5.9


@all_of(
    ("version", "compute", "more", "backend"),
    [
        (NEW, (9, 0), {}, "fa3"),
        (NEW, (8, 0), {}, "flashinfer"),
        (NEW, (10, 0), {}, "trtllm_mha"),
        (BEFORE, (10, 0), {}, "flashinfer"),
        (NEW, (12, 0), {}, "flashinfer"),
        (NEW, None, {}, "flashinfer"),
        (NEW, None, {"vendor": "AMD"}, "aiter"),
        (NEW, (9, 0), {"latent": True}, "fa3"),
        (NEW, (10, 0), {"latent": True}, "flashinfer"),
        (NEW, (8, 9), {"latent": True}, "triton"),
        (NEW, (9, 0), {"latent": True, "sparse": True}, "dsa"),
        (NEW, (9, 0), {"latent": True, "compressed": True}, "dsv4"),
        (NEW, (8, 0), {"model_type": "gpt_oss"}, "triton"),
        (NEW, (9, 0), {"model_type": "gpt_oss"}, "fa3"),
    ],
)
def test_attention_that_nobody_chose(version, compute, more, backend):
    usual = {"vendor": "NVIDIA", "model_type": "llama", "latent": False, "sparse": False}
    facts = usual | {"compressed": False} | more
    criteria = card_defaults.BackendCriteria(version=version, compute=compute, **facts)
    assert card_defaults.backend(None, criteria) == backend
    assert card_defaults.backend("triton", criteria) == "triton"
    with pytest.raises(UsageError, match="flashinfer"):
        card_defaults.backend("flashinfr", criteria)
