"""Layouts of a server: each is the answer that its flags give, and none is beaten."""

import json
import shlex

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers.questions.fit.serving import proportional
from weighbridge.base.errors import UsageError
from weighbridge.engines.servers.layouts import ServerRanks, sent
from weighbridge.faces.cli.menu import run
from weighbridge.models.arch.body import Body, LayerBlock
from weighbridge.models.arch.parts import Dense, Experts

ASKED = {"for_": "infer", "gpu": "l40s:4", "context": 8192}
COSTS = ("read_in_turn_bytes", "far_bytes", "near_bytes")


@pytest.fixture(scope="module")
def rows():
    return weighbridge.prepare("qwen3-30b-a3b").layouts(every=True, **ASKED).rows


@pytest.mark.slow
def test_each_row_is_the_answer_of_its_flags(capsys, rows):
    for row in rows:
        assert run(["infer", "qwen3-30b-a3b", *shlex.split(row["flags"]), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["verdict"]["fits"] == row["fits"] == "yes"
        assert found["verdict"]["per_device"]["expected"] == row["peak_bytes"]
        assert found["derived"]["kv_cache_tokens"] == row["cached_tokens"]
        assert row["requests"] == row["cached_tokens"] // 8192
        assert ("--enable-expert-parallel" in row["flags"]) == row["id"].endswith("ep")


@pytest.mark.slow
def test_all_cards_are_used_each_way_once(rows):
    for row in rows:
        sizes = (row[f"{kind}_parallel_size"] for kind in ("tensor", "pipeline", "data"))
        tensor, pipeline, data = sizes
        assert tensor * pipeline * data == 4
        turn, fullest = row["read_in_turn_bytes"], row["weights_bytes"]
        assert pipeline * fullest >= turn >= fullest  # the others have as much or less
        assert turn > 0.95 * pipeline * fullest  # 48 layers, and the ends
    names = [row["id"] for row in rows]
    assert len(names) == len(set(names))
    assert {"tp4", "tp4 ep", "tp2 dp2", "pp4"} <= set(names)


def test_nothing_that_fits_beats_what_is_told(rows):
    told = weighbridge.prepare("qwen3-30b-a3b").layouts(**ASKED).rows
    assert {row["id"] for row in told} < {row["id"] for row in rows}
    for row in told:
        for other in rows:
            more = other["cached_tokens"] > 1.1 * row["cached_tokens"]
            assert not (more and all(other[cost] < 0.9 * row[cost] for cost in COSTS))
    turns = [row["read_in_turn_bytes"] for row in told]
    assert turns == sorted(turns, key=lambda n: round(n, 2 - len(str(n))))


def test_what_is_named_stays():
    found = weighbridge.prepare("llama-3.1-8b").layouts(tensor_parallel_size=2, **ASKED)
    assert found.about == "infer"
    assert all(row["tensor_parallel_size"] == 2 for row in found.rows)


def test_attention_is_copied_for_sglang_alone():
    asked = {**ASKED, "engine": "sglang", "every": True}
    found = weighbridge.prepare("qwen3-30b-a3b").layouts(**asked).rows
    copied = [row for row in found if row["enable_dp_attention"]]
    assert {row["id"].split()[0] for row in copied} >= {"tp4"}
    assert all("--enable-dp-attention" in row["flags"] for row in copied)


def test_where_nothing_fits_the_least_is_told():
    found = weighbridge.prepare("llama-3.1-405b").layouts(for_="infer", gpu="4090:2")
    assert found.rows
    assert not found.fitting


UNLIKE = "RTX 5070 Ti+GeForce RTX 5090"
QWEN = {"engine": "vllm", "quantization": "fp8", "gpu": UNLIKE}


@pytest.mark.slow
def test_stages_over_unlike_cards_have_their_own_numbers_of_layers():
    """The kind of cards of vllm-project/vllm issue 34076, which has 12,36 by hand of an FP8 model
    of 30B: an even split does not fit, and one layer more or less on the smaller card leaves no
    more room for tokens."""
    model = weighbridge.prepare("qwen3-30b-a3b", offline=True)
    rows = {row["id"]: row for row in model.layouts(for_="infer", every=True, **QWEN).rows}
    (row,) = (row for row in rows.values() if row["pp_layer_partition"])
    assert "pp2" not in rows
    few, many = row["pp_layer_partition"]
    assert few + many == 48
    assert row["launch"].startswith(f"VLLM_PP_LAYER_PARTITION={few},{many} vllm serve")
    for step in (-1, 1):
        asked = QWEN | {"pipeline_parallel_size": 2, "tensor_parallel_size": 1}
        parts = (few + step, many - step)
        other = model.infer(**asked, pp_layer_partition=parts, remedies=False)
        assert (
            other.verdict.fits != "yes" or other.derived["kv_cache_tokens"] <= row["cached_tokens"]
        )


def test_cards_that_are_alike_are_not_parted():
    rows = weighbridge.prepare("llama-3.1-8b").layouts(every=True, **ASKED).rows
    assert not any(row["pp_layer_partition"] for row in rows)


@all_of(
    ("layers", "rooms", "told"),
    [
        (48, (16, 32), (16, 32)),
        (36, (10, 10), (18, 18)),
        (4, (1, 100), (1, 3)),  # each has one
        (7, (2, 2, 2), (3, 2, 2)),
    ],
)
def test_layers_are_dealt_in_proportion_to_rooms(layers, rooms, told):
    assert proportional(layers, rooms) == told


WRONG = [
    ({"gpu": "h100"}, "2 to 1,024 cards"),
    ({}, "2 to 1,024 cards"),
    ({"gpu": "h100:2", "engine": "transformers"}, "not transformers"),
    ({"gpu": "h100:3", "tensor_parallel_size": 2}, "takes no ranks"),
    ({"gpu": "h100:2", "for_": "load"}, "train or infer"),
]


@all_of(("asked", "said"), WRONG)
def test_what_is_no_such_question(asked, said):
    with pytest.raises(UsageError, match=said):
        weighbridge.prepare("llama-3.1-8b").layouts(**{"for_": "infer", **asked})


def test_the_command_line_ranks_servers(capsys):
    said = ["--layouts", "--engine", "vllm", "--gpu", "l40s:2"]
    assert run(["fit", "llama-3.1-8b", *said]) == 0
    shown = capsys.readouterr().out
    assert "served on 2 x L40S" in shown
    assert "weighbridge infer llama-3.1-8b --engine vllm --gpu l40s:2" in shown.replace("\n", " ")
    assert run(["fit", "llama-3.1-8b", "--layouts", "--for", "lora", "--gpu", "l40s:2"]) == 2


# What is sent, by hand: a hidden state of 10 numbers is 20 bytes, of 4 layers with 2 halves each

BLOCK = LayerBlock(mixers=(None,), feeds=(Dense(width=40),))  # type: ignore[arg-type]
ROUTED = LayerBlock(mixers=(None,), feeds=(Experts(count=8, top_k=2, width=40),))  # type: ignore[arg-type]
DENSE = Body(hidden=10, vocab=100, blocks=(BLOCK,) * 4)
SPARSE = Body(hidden=10, vocab=100, blocks=(BLOCK, *(ROUTED,) * 3))
SENT = [
    (DENSE, ServerRanks(), 8, (0, 0)),
    (DENSE, ServerRanks(tensor=2), 8, (8 * 20, 0)),  # 2 x 1/2 of 20 bytes, 8 times
    (DENSE, ServerRanks(tensor=4), 2, (0, 8 * 30)),  # 2 x 3/4
    (DENSE, ServerRanks(pipeline=4), 8, (40, 0)),  # the state and its residual, once
    (DENSE, ServerRanks(2, 2), 2, (4 * 20, 20)),  # two layers a stage; half of 40 bytes
    (DENSE, ServerRanks(data=4), 8, (0, 0)),  # copies that share nothing
    (SPARSE, ServerRanks(data=4), 8, (3 * 2 * 60, 0)),  # to three others and back, three layers
    (SPARSE, ServerRanks(2, 1, 4), 4, (8 * 20, 3 * 2 * 60)),  # copies are two machines
    (SPARSE, ServerRanks(4, 1, 1, 4), 8, (4 * 2 * 60, 0)),  # attention is whole on a rank
    (SPARSE, ServerRanks(4, 1, 1, 2), 8, (4 * 20 + 4 * 2 * 20, 0)),
]


@all_of(("body", "ranks", "machine", "told"), SENT)
def test_what_a_card_sends_for_a_token(body, ranks, machine, told):
    assert sent(body, ranks, machine) == told
