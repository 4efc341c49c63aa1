"""Ways to place a model over cards and host memory: each is the answer that its flags give."""

import json
import shlex
from itertools import pairwise

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.base.words import words_in
from weighbridge.faces.cli.menu import run
from weighbridge.faces.view.ranks import _places

MIXTURE = {"for_": "infer", "engine": "llama.cpp", "gpu": "4090+3060", "quantization": "Q8_0"}
DENSE = {"for_": "infer", "engine": "llama.cpp", "gpu": "4090", "quantization": "Q4_K_M"}


def ways(name="qwen3-30b-a3b", **asked):
    return weighbridge.prepare(name, offline=True).layouts(**asked)


@pytest.fixture(scope="module")
def rows():
    return ways(every=True, **MIXTURE).rows


@pytest.mark.slow
def test_each_row_is_the_answer_of_its_flags(capsys, rows):
    for row in rows:
        assert run(["infer", "qwen3-30b-a3b", *shlex.split(row["flags"]), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["verdict"]["fits"] == row["fits"] == "yes"
        peaks = [d["peak"]["driver"]["expected"] for d in found["devices"] if d["kind"] == "gpu"]
        assert peaks == [card["needs_bytes"] for card in row["cards"]]
        assert found["derived"]["launch"] == row["launch"]
        assert sum(card["layers"] for card in row["cards"]) + row["host_layers"] == 48


@pytest.mark.slow
@all_of(("gpu",), ["3060:2", "4070+3060", "3060"])
def test_a_level_less_on_the_host_does_not_surely_fit(gpu):
    """The edge of the search: with the experts of one layer more on cards, dealt out as told or as
    the program does it, the verdict is no longer yes."""
    asked = {**MIXTURE, "gpu": gpu, "context": 8192, "cache_type_k": "f16"}
    row = ways(**asked).rows[0]
    model = weighbridge.prepare("qwen3-30b-a3b", offline=True)
    settings = {n: v for n, v in asked.items() if n != "for_"} | {"remedies": False}
    least, layers = row["host_experts"], [card["layers"] for card in row["cards"]]
    assert least > 0
    splits = [None]
    if len(layers) > 1:
        splits += [(layers[0] + more, 49 - layers[0] - more) for more in (-1, 0, 1)]
    fits = [
        model.infer(**settings, n_cpu_moe=least - 1, tensor_split=split).verdict.fits
        for split in splits
    ]
    assert "yes" not in fits


@pytest.mark.slow
def test_longer_texts_and_more_bits_leave_more_to_the_host(rows):
    """A law: of one way to use the cards, a longer context or a wider cache never leaves less."""
    by_layers = [row for row in rows if "-sm" not in row["placed"]]
    for bits in ("f16", "q8_0"):
        told = sorted(
            (row for row in by_layers if row["cache_types"][0] == bits),
            key=lambda row: row["context"],
        )
        assert len(told) == 3
        assert all(a["host_bytes"] <= b["host_bytes"] for a, b in pairwise(told))
    wide, narrow = (
        {row["context"]: row["host_experts"] for row in by_layers if row["cache_types"][0] == bits}
        for bits in ("f16", "q8_0")
    )
    assert all(narrow[length] <= wide[length] for length in wide)


@pytest.mark.slow
def test_a_second_card_leaves_less_to_the_host():
    one = ways(**MIXTURE | {"gpu": "4090", "context": 4096}).rows[0]
    two = ways(**MIXTURE | {"context": 4096}).rows[0]
    assert one["read_from_host_bytes"] > two["read_from_host_bytes"]
    assert one["host_bytes"] > two["host_bytes"]


def test_whole_layers_of_a_dense_model_go_to_the_host():
    row = ways("llama-3.1-70b", context=4096, **DENSE).rows[0]
    on_card = int(row["placed"].removeprefix("-ngl "))
    assert row["host_layers"] == 81 - on_card
    assert row["cards"][0]["layers"] == on_card - 1  # the output is one
    # by hand: a layer of Q4_K_M is about a hundredth of the model, and of what a token reads
    each = row["read_from_host_bytes"] / row["host_layers"]
    assert row["read_in_turn_bytes"] / on_card == pytest.approx(each, rel=0.05)


PUBLISHED = [
    # gpt-oss-120b on one RTX 3090: "offload 27 of the MoE layers", "just under the 24 GB limit";
    # https://www.hardware-corner.net/gpt-oss-offloading-moe-layers/ of November 2025
    ("gpt-oss-120b", "3090", "llama.cpp", "6700", 8192, {}, range(22, 28)),
    # with all of its context on two RTX 5090, --n-cpu-moe 3: ggml-org/llama.cpp pull request 15077
    ("gpt-oss-120b", "5090:2", "llama.cpp", "6110", 131_072, {"flash_attn": "on"}, range(2, 5)),
    # Qwen3.5-122B in Q4_K_XL on two RTX 3090, -c 65536 -ub 2048 --n-cpu-moe 24 "works":
    # ikawrakow/ik_llama.cpp pull request 1464
    (
        *("qwen3.5-122b-a10b", "3090:2", "ik_llama.cpp", "4325", 65_536),
        *({"ubatch_size": 2048}, range(22, 26)),
    ),
]


@pytest.mark.slow
@all_of(("name", "gpu", "engine", "build", "context", "more", "told"), PUBLISHED)
def test_published_numbers_of_layers_are_near(name, gpu, engine, build, context, more, told):
    form = "MXFP4_MOE" if name.startswith("gpt") else "Q4_K_M"
    found = ways(
        name,
        for_="infer",
        gpu=gpu,
        engine=engine,
        engine_version=build,
        context=context,
        cache_type_k="f16",
        quantization=form,
        **more,
    )
    assert found.rows[0]["host_experts"] in told


@pytest.mark.slow
def test_what_is_named_stays():
    found = ways(n_cpu_moe=40, cache_type_k="q8_0", **MIXTURE)
    assert all("-ncmoe 40" in row["launch"] for row in found.rows)
    assert {row["cache_types"][0] for row in found.rows} == {"q8_0"}


def test_a_machine_without_room_is_told():
    found = ways(ram="4GiB", context=4096, **MIXTURE | {"gpu": "3060"})
    assert not found.fitting
    assert found.rows[0]["host_bytes"] > 4 * 2**30


@pytest.mark.slow
def test_the_command_line_places_a_model(capsys):
    said = ["--layouts", "--engine", "llama.cpp", "--quantization", "Q8_0", "--gpu", "4090+3060"]
    assert run(["fit", "qwen3-30b-a3b", *said, "--context", "32768"]) == 0
    shown = capsys.readouterr().out
    assert "by llama.cpp on GeForce RTX 4090 + GeForce RTX 3060 12GB" in shown
    assert "The first puts" in shown
    assert "llama-server -hf unsloth/Qwen3-30B-A3B-GGUF:Q8_0 -c 32768" in shown
    assert run(["fit", "qwen3-30b-a3b", *said[:-1], "3060", "--ram", "4GiB"]) == 1
    assert "no way to place it fits" in capsys.readouterr().out


WRONG = [({}, "places a model over cards"), ({"gpu": "4090", "split_mode": "row"}, "no more since")]


@all_of(("asked", "said"), WRONG)
def test_what_is_no_such_question(asked, said):
    with pytest.raises(UsageError, match=said):
        ways(for_="infer", engine="ik_llama.cpp", quantization="Q8_0", **asked)


@pytest.mark.parametrize(
    ("lang", "said"),
    [("en", "in RAM: no layers; "), ("zh", "内存：没有层；共 ")],
)
def test_a_host_without_layers_has_none(lang, said, capsys):
    asked = ["--layouts", "--engine", "llama.cpp", "--gpu", "4090", "--quantization", "Q8_0"]
    assert run(["fit", "llama-3.1-8b", *asked, "--context", "4096", "--lang", lang]) == 0
    shown = capsys.readouterr().out
    assert said in shown
    assert "RAM: ;" not in shown


def test_an_engine_does_not_train(capsys):
    asked = ["fit", "llama-3.1-8b", "--layouts", "--engine", "llama.cpp", "--for", "train"]
    assert run([*asked, "--gpu", "h100-sxm:2"]) == 2
    told = capsys.readouterr().err
    assert "--engine llama.cpp serves, and does not train: --for infer has" in told
    assert told.count("\n") == 1


# Experts by name, where no number of layers is fine enough

CLOSE = {
    "for_": "infer",
    "gpu": "4090+3060",
    "quantization": "Q4_K_M",
    "context": 32_768,
    "cache_type_k": "f16",
    "engine": "llama.cpp",
}
ROOM = [
    (CLOSE, "115GiB", "114GiB", "116GiB"),
    (
        {**CLOSE, "engine": "ik_llama.cpp", "gpu": "3060+3060+4090"},
        *("105GiB", "103GiB", "107.5GiB"),
    ),
]


@pytest.mark.slow
@all_of(("asked", "ram", "less", "more"), ROOM)
def test_experts_are_placed_by_name_where_layers_do_not_fit(asked, ram, less, more):
    """Qwen3-235B: with less host memory nothing fits, with more a number of layers does."""
    (row,) = ways("qwen3-235b-a22b", ram=ram, **asked).rows
    assert row["fits"] == "yes"
    assert row["placed"].startswith("-ot 'blk")
    assert "=CPU" in row["placed"]
    few, many = (ways("qwen3-235b-a22b", ram=size, **asked).rows for size in (less, more))
    assert "yes" not in {each["fits"] for each in few}
    assert "yes" in {each["fits"] for each in many}
    assert not any("-ot" in each["placed"] for each in many)


@pytest.mark.slow
def test_a_row_by_name_is_the_answer_of_its_flags_and_of_its_line(capsys):
    row = ways("qwen3-235b-a22b", ram="115GiB", **CLOSE).rows[0]
    words = shlex.split(row["flags"])
    assert run(["infer", "qwen3-235b-a22b", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["fits"] == row["fits"] == "yes"
    peaks = [d["peak"]["driver"]["expected"] for d in found["devices"] if d["kind"] == "gpu"]
    assert peaks == [card["needs_bytes"] for card in row["cards"]]
    assert found["derived"]["launch"] == row["launch"]
    line = row["launch"].splitlines()[-1].replace("qwen3-235b-a22b-Q4_K_M.gguf", "qwen3-235b-a22b")
    more = ["--gpu", "4090+3060", "--ram", "115GiB", "--quantization", "Q4_K_M"]
    assert run(["infer", "--command", line, *more, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["devices"][:2] == found["devices"][:2]
    assert again["workload"]["override_tensor"] == found["workload"]["override_tensor"]


def test_a_placement_by_name_is_kept():
    """What the user named is the one way that is told, and judged as it is."""
    named = ("exps=CPU",)
    rows = ways(**MIXTURE, context=8192, cache_type_k="f16", override_tensor=named).rows
    assert [row["placed"] for row in rows] == [""]
    assert rows[0]["host_experts"] == 48


def test_experts_of_other_cards_layers_are_told():
    card = {"name": "A", "needs_bytes": 1 << 30, "usable_bytes": 2 << 30, "layers": 3, "guests": 2}
    row = {"cards": [card], "host_layers": 0, "host_experts": 0, "host_bytes": 1 << 30}
    first, _ = _places(row, words_in("en", "screens"), None)
    assert first == "on A: layers 0-2, experts of 2 others and the output, 1.0 GiB of 2.0 GiB"
