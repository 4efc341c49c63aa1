"""--override-tensor: what a pattern finds, where the tensors go, and what is refused. Buffers of
runs with it are in test_llama_cpp_records.py."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.cases import all_of
from tests.engines.answers import answer, named, part
from weighbridge.base.dtypes import GGML_BY_NAME
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.engines.ik_llama_cpp.rules import ik_rules
from weighbridge.engines.llama_cpp import infer, patterns
from weighbridge.engines.llama_cpp.answers import fixed
from weighbridge.engines.llama_cpp.by_name import by_name
from weighbridge.engines.llama_cpp.compute import placement, reads_rows, step_of
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.engines.llama_cpp.graphs.network import Weight
from weighbridge.engines.llama_cpp.networks import complete
from weighbridge.engines.llama_cpp.overrides import blocks, cards, of_first, overrides
from weighbridge.engines.llama_cpp.overrides import named as found_by
from weighbridge.engines.llama_cpp.patterns import PatternError, PatternWork, TensorPattern
from weighbridge.engines.llama_cpp.placement import FREQUENCIES
from weighbridge.engines.llama_cpp.placing import read, sent
from weighbridge.engines.llama_cpp.rules import rules, rules_on_metal
from weighbridge.engines.llama_cpp.speculation import plain as of_draft
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.faces.cli.menu import run
from weighbridge.workload import Infer

NAMES = [
    *(f"blk.{i}.{what}" for i in (0, 3, 9, 10, 27, 60) for what in
      ("ffn_up_exps.weight", "ffn_gate_shexp.weight", "attn_kv_b.weight", "exp_probs_b.bias")),
    "token_embd.weight", "output.weight", "output_norm.weight",
]  # fmt: skip
SAME = [  # to Python's `re` as to std::regex
    "exps", "", r"blk\.(1[0-9]|2\d)\.ffn_.*_exps\.", r"^blk.[3-9]\.", r"weight$", r"\bexps\b", r"\Bexps",
    r"[6-9]\.*exps", r"(a|)exps", r"blk.*[02468].ffn.", r"\d{2}", r"[^b]lk", r"(?:ffn|attn)_(up|kv)",
    r"x*", r"\w+\.\w+$", r"a{0,2}ttn_", r"t{2}", r"(e|x)+?ps", r"[\w.]+_b\.(bias|weight)$", r"\S\D\W",
    r"[a-c-]ias", r"\x62lk", r"blk\.{1}6", r"(t|_)+k?v{1,}", "^output|^token", r"a|b{3}|blk\.60",
]  # fmt: skip


@all_of("text", SAME)
def test_patterns_mean_what_they_mean_elsewhere(text):
    pattern = TensorPattern(text)
    told = [pattern.found(name) for name in NAMES]
    assert told == [re.search(text, name) is not None for name in NAMES]


OWN = [  # of ECMAScript, which Python has otherwise or not at all
    (r"[[:digit:]]{2}", "blk.10", True),
    (r"[[:digit:]]{2}", "blk.1x", False),
    (r"[]k", "blk", False),  # a class of nothing
    (r"[^]k", "blk", True),  # a class of everything
    (r"]", "a]", True),
    (r"a**b", "b", True),
    (r"[\d]k", "1k", True),
    (r"[\D]k", "1k", False),
    (r"é$", "blk.é", True),
    (r"^..$", "é", True),  # byte by byte
    (r"[\b]", "b", False),
    ("\\u0062lk", "blk", True),
]


@all_of(("text", "name", "told"), OWN)
def test_patterns_are_those_of_the_program(text, name, told):
    assert TensorPattern(text).found(name) is told


SIGNS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\.", r"\w", "^", "$", r"\b"])


def joined(parts):
    return st.one_of(
        st.tuples(parts, parts).map("".join),
        st.tuples(parts, parts).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(parts, st.sampled_from("*+?")).map(lambda two: f"(?:{two[0]}){two[1]}"),
        st.tuples(parts, st.integers(0, 2)).map(lambda two: f"({two[0]}){{{two[1]}}}"),
    )


@pytest.mark.slow
@given(st.recursive(SIGNS, joined, max_leaves=12), st.lists(st.text("ab._", max_size=7)))
def test_any_pattern_finds_what_an_engine_with_backtracking_finds(text, names):
    pattern = TensorPattern(text)
    for name in names:
        assert pattern.found(name) == (re.search(text, name) is not None), name


REFUSED = [
    ("(", "( that is not closed"), (")", ") without"), ("[a", "[ that is not closed"),
    ("*a", "has a * with nothing before"), ("a|+", "has a + with nothing before"), ("^*", "nothing"),
    ("a{", "no count"), ("a{x}", "no count"), ("a{3", "no count"), ("a{2,1}", "backwards"),
    ("[b-a]", "range that runs backwards"), (r"[a-\d]", "range"), ("\\", "middle of an escape"),
    ("(?=a)", "looks ahead"), ("(?!a)", "looks ahead"), (r"(a)\1", "refers back"), (r"\x1", "no number"),
    (r"\cA", "control"), ("[[:x:]]", "class of signs"), ("(" * 41 + ")" * 41, "40 groups"),
    ("a" + "*" * 41, "repeats repetitions"), ("a{1001}", "1,000"), ("(a{900}){900}", "too long"),
]  # fmt: skip


@all_of(("text", "says"), REFUSED)
def test_what_is_no_pattern_is_refused_with_the_reason(text, says):
    with pytest.raises(PatternError, match=re.escape(says)):
        TensorPattern(text)


@pytest.mark.slow
def test_as_many_groups_and_repetitions_as_are_read():
    assert TensorPattern("(" * 40 + "a" + ")" * 40).found("a")
    assert TensorPattern("b" + "*" * 40 + "a{1000}").found("a" * 1000)
    assert not TensorPattern("a{1000}").found("a" * 999)


@all_of("text", ["(a*)*b", "(a|a)*b", "(.*.*.*.*)*b", "(a?){30}a{30}b", "(.*a){12}b"])
def test_patterns_that_hang_elsewhere_are_read_in_few_looks(text):
    """Looks at a name of forty signs, which backtracking takes 2^40 times."""
    work = PatternWork()
    before = work.left
    assert not TensorPattern(text, work).found("a" * 40)
    assert before - work.left < 200_000


def test_work_is_counted_and_ends():
    """A state costs what eight signs do, and each part of a pattern what 32 do; all patterns of a
    question share what there is."""
    made = 3 * patterns.NODE  # two signs, and one after another
    work = PatternWork(left=made + 3 + 3 * patterns.STATE * 3 + made)
    assert not TensorPattern("bc", work).found("ab")
    assert work.left == 3 * patterns.STATE * 3 - patterns.STATE * (1 + 1 + 2) + made
    with pytest.raises(PatternError, match="too long to match"):
        TensorPattern("bc", work).found("x" * 200)


def test_what_was_read_once_is_looked_up():
    work = PatternWork()
    pattern = TensorPattern("exps", work)
    pattern.found("blk.1.attn")
    left = work.left
    pattern.found("blk.1.attn")
    assert left - work.left == len("blk.1.attn") + 1


# Which tensors, and where to


def test_the_first_pattern_that_is_found_decides():
    said = overrides(("ffn_up=CUDA1", "exps=CPU", "up=CUDA0"), 2, None)
    assert [(each.pattern, each.device) for each in said] == [("ffn_up", 1), ("exps", 2), ("up", 0)]
    names = ["blk.0.ffn_up_exps", "blk.0.ffn_down_exps", "blk.0.up", "output"]
    assert found_by(names, said) == {names[0]: 0, names[1]: 1, names[2]: 2}


BUFFERS = [
    ("x=CPU", 3), ("x=CUDA_Host", 3), ("x=ROCm_Host", 3), ("x=CUDA0", 0), ("x=ROCm2", 2), ("x=Vulkan1", 1),
    ("x=SYCL1", 1), ("x=Metal", 0), ("x=MTL0", 0), ("=CPU", 3),
]  # fmt: skip


@all_of(("pair", "device"), BUFFERS)
def test_buffers_are_named_as_backends_name_them(pair, device):
    (each,) = overrides((pair,), 3, None)
    assert (each.device, each.written) == (device, pair)


WRONG = [
    ("x=CUDA3", None, "no CUDA3 among 3 GPUs"), ("x=GPU0", None, "'GPU0' is no buffer"),
    ("x=cpu", None, "'cpu' is no buffer"), ("x", None, "has no buffer"), ("x=", None, "'' is no buffer"),
    ("(=CPU", None, "'(' has a ( that"), ("x=CUDA1", 0, "uses GPU 0 alone"), ("x=a=CPU", None, "no buffer"),
    ("x" * (1 << 15) + "=CPU", None, "32,768"),
]  # fmt: skip


@all_of(("pair", "alone", "says"), WRONG)
def test_wrong_pairs_are_refused(pair, alone, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        overrides((pair,), 3, alone)


def test_cards_that_are_named():
    assert cards(["a=CUDA0", "b=CPU", "c=CUDA2"]) == 3
    assert cards(["a=CPU", "b=nothing"]) == 0


@pytest.mark.slow
@given(st.sets(st.integers(0, 1299), min_size=1, max_size=80))
def test_numbers_of_blocks_are_written_so_that_they_alone_are_found(numbers):
    pattern = TensorPattern(blocks(numbers) + r"\.")
    assert {i for i in range(1300) if pattern.found(f"blk.{i}.x")} == numbers


def test_blocks_in_short():
    assert blocks(range(3, 30)) == r"blk\.([3-9]|[12][0-9])"
    assert blocks([0, 5, 72, 74, 75, 76, 100]) == r"blk\.([05]|7[24-6]|100)"
    assert blocks([7, 8, 21]) == r"blk\.([78]|21)"
    assert of_first(3) == r"blk\.([0-2])\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"
    assert of_first(9999) == r"\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"


# Bytes

ASKED = {"engine": "llama.cpp", "quantization": "Q4_0", "context": 4096, "program": "cli"}
TWO = {"gpu": "2xh100"}
MIXTURE = "qwen3-30b-a3b"


def held(name=MIXTURE, **more):
    w = Infer(**ASKED | more)
    kind = engine(w.engine)
    known, _ = version(kind, w.engine_version)
    return infer.hold(subject(named(name), w, kind, known), w, w.budget(), known[0])


# Experts of a layer of Qwen3-30B-A3B in 4.5 bits: 128 of three matrices of 2,048 x 768. Rows of 768
# are read to 1,024 on a card: 144 bytes more of a tensor, to 128
LAYER = 3 * 128 * 2048 * 768 * 18 // 32
MORE = 256


def test_experts_go_where_their_names_say():
    plain = held(**TWO)
    moved = held(override_tensor=(r"blk\.[0-3]\..*exps=CUDA1", r"blk\.4[0-9]\..*exps=CPU"), **TWO)
    assert moved.weights[0] - plain.weights[0] == -4 * (LAYER + MORE)
    assert moved.weights[1] - plain.weights[1] == (4 - 8) * (LAYER + MORE)
    assert moved.weights[2] - plain.weights[2] == 8 * LAYER
    assert (moved.caches, moved.placed.allotment.layers) == (
        plain.caches,
        plain.placed.allotment.layers,
    )


def test_all_experts_by_name_are_those_of_the_flag():
    by_name, by_flag = held(override_tensor=("exps=CPU",)), held(n_cpu_moe=99)
    assert by_name.weights == by_flag.weights
    assert by_name.compute == by_flag.compute


def test_a_pattern_comes_before_the_flag():
    kept = held(override_tensor=("ffn_up_exps=CUDA0",), n_cpu_moe=99)
    assert kept.weights[0] - held(n_cpu_moe=99).weights[0] == 48 * LAYER // 3


def test_names_end_a_pipeline():
    """src/llama-context.cpp (pipeline_parallel): not with tensor overrides, whatever they move."""
    assert held(**TWO).placed.copies == 4
    assert held(override_tensor=("nothing=CUDA1",), **TWO).placed.copies == 1


def test_a_tied_embedding_lies_once_where_its_name_says():
    """Llama-3.2-1B: on the card beside the host's rows, unless both are on one device."""
    plain, card, host = (
        held("llama-3.2-1b", override_tensor=said)
        for said in (None, ("token_embd=CUDA0",), ("token_embd=CPU",))
    )
    table = plain.net.weights["token_embd.weight"].nbytes
    assert plain.weights[1] - card.weights[1] == table
    assert plain.weights[0] == card.weights[0]
    assert plain.weights[0] - host.weights[0] == table
    assert plain.weights[1] == host.weights[1]
    assert read(host)[1] == read(plain)[1] + table  # the host makes logits
    assert read(card) == read(plain)


@pytest.mark.parametrize(
    ("build", "kind", "read"),
    [
        ("b10088", "Q4_K_M", False),
        ("b10089", "Q4_K_M", True),
        ("b10088", "Q8_0", True),
        ("b10088", "BF16", True),
    ],
)
def test_rows_that_a_card_does_not_read_are_copied_to_the_host(build, kind, read):
    """The whole table, each step: nothing aborts (llama.cpp #25962; ik_llama.cpp #1855)."""
    more = {"quantization": kind, "engine_version": build, "override_tensor": ("token_embd=CUDA0",)}
    found, plain = (held("llama-3.1-8b", **one) for one in (more, more | {"override_tensor": None}))
    table = found.net.weights["token_embd.weight"].nbytes
    assert found.weights[0] - plain.weights[0] == table
    copied = found.compute[1] - plain.compute[1]
    assert (copied > 0.9 * table) is not read
    assert copied == pytest.approx(0 if read else table, abs=64 << 20)
    told = answer("llama-3.1-8b", **ASKED | more).warnings
    assert any("reads rows of" in line and "token_embd" in line for line in told) is not read


def test_types_whose_rows_are_read():
    def of(name, width=4096, build=10089):
        return reads_rows(GGML_BY_NAME[name], width, rules(build))

    assert all(map(of, ("Q6_K", "IQ3_S", "Q8_0", "F16", "IQ4_NL", "MXFP4")))
    assert not of("MXFP4", 2880)  # no whole 256 values
    assert of("Q8_0", 2880)
    assert not of("TQ1_0")
    assert not of("Q6_K", build=10088)
    assert reads_rows(GGML_BY_NAME["Q6_K"], 4096, rules_on_metal(10000))
    for name, able in (("Q8_0", True), ("BF16", False), ("Q6_K", False)):
        assert reads_rows(GGML_BY_NAME[name], 4096, ik_rules(4840)[0]) is able


def test_what_heads_are_turned_by_lies_beside_every_layer():
    """create_tensor: one in the file, a copy in each buffer of layers; one where a name says."""
    assert turned(**TWO) == [(0, 256), (1, 256)]
    assert turned() == [(0, 256)]
    assert turned(n_gpu_layers=9) == [(0, 256), (1, 256)]  # and the host
    assert turned(override_tensor=("rope_freqs=CPU",), **TWO) == [(2, 256)]
    assert turned(override_tensor=("rope=CUDA1",), **TWO) == [(1, 256)]
    assert turned(override_tensor=("ropes=CUDA1",), **TWO) == [(0, 256), (1, 256)]


def turned(**more):
    """(device, bytes) of each copy, and the graph reads those."""
    found = held("llama-3.1-8b", **more)
    one = Weight(FREQUENCIES, GGML_BY_NAME["F32"], (64,), 256)
    found = replace(found, net=replace(found.net, weights=found.net.weights | {one.name: one}))
    places = [(d, n) for t, d, n in found.placed.pieces() if t.name == FREQUENCIES]
    build = Build(found.net, step_of(found.launch, found.near), placement(found.placed))
    read_of = {build.rope_factors(i).dev for i in range(len(found.net.layers))}
    assert read_of == {d for d, _ in places}
    return places


@pytest.mark.parametrize(
    ("said", "mapped"),
    [
        ({}, True),
        ({"override_tensor": ("exps=CPU",)}, False),
        ({"override_tensor": ("nothing=CPU",)}, True),
        ({"override_tensor": ("exps=CUDA0",)}, True),
        ({"override_tensor": ("exps=CUDA0", "exps=CPU")}, True),
        ({"override_tensor": ("exps=CUDA0",), "n_cpu_moe": 9}, True),
        ({"n_cpu_moe": 1}, False),
        ({"override_tensor": ("exps=CPU",), "engine_version": "4356"}, True),
        ({"override_tensor": ("exps=CPU",), "engine": "llama.cpp"}, True),
    ],
)
def test_ik_llama_cpp_maps_no_file_where_a_name_leaves_a_tensor_to_the_host(said, mapped):
    """Since build 4357 (#1510): what is on the host is allocated, and no page of it is dropped."""
    found = answer(MIXTURE, **ASKED | {"engine": "ik_llama.cpp"} | said)
    assert found.settings["no_mmap"] is not mapped
    host = next(d for d in found.devices if d.kind == "host")
    loading = next(c for c in host.phases[0].components if c.detail == "while loading")
    assert loading.droppable is mapped
    assert "--no-mmap" not in found.derived["launch"]


def test_a_model_without_experts_has_none_to_leave():
    found = answer("llama-3.1-8b", **ASKED | {"engine": "ik_llama.cpp", "n_cpu_moe": 99})
    assert not found.settings["no_mmap"]


def test_a_draft_is_not_placed_by_the_patterns_of_the_model():
    w = Infer(engine="llama.cpp", override_tensor=("ffn=CPU",), n_cpu_moe=3)
    assert of_draft(w).override_tensor is None


def test_a_tensor_by_name_is_not_split_by_rows():
    rows, whole = (
        held("llama-3.1-8b", override_tensor=said, split_mode="row", **TWO)
        for said in (None, (r"blk\.5\.ffn_down=CUDA1",))
    )
    matrix = 14336 * 4096 * 18 // 32
    half = rows.placed.ends[0]
    assert rows.weights[0] - whole.weights[0] == pytest.approx(matrix * half, abs=256)
    assert whole.weights[1] - rows.weights[1] == pytest.approx(matrix * half, abs=256)


def test_a_matrix_that_is_made_at_load_lies_beside_what_it_is_made_of():
    """ik_llama.cpp: kv_b in the buffer of k_b, whatever its own name (src/llama.cpp,
    llm_prepare_mla). DeepSeek-V2-Lite: 27 layers, 16 heads of 128 keys and values, a latent of 512."""
    name, more = "deepseek-v2-lite", {"engine": "ik_llama.cpp", "mla_attn": 3}
    plain, keys, both = (
        part(answer(name, **ASKED | more, override_tensor=said).devices[0].phases[0], "weights")
        for said in (None, ("attn_k_b=CPU",), ("attn_kv_b=CPU",))
    )
    values = 27 * 16 * 128 * 512
    assert plain - keys == 3 * values * 18 // 32 + 27 * 256  # rows of 128 are read to 512
    assert both == plain


def test_matrices_that_a_file_lacks_lie_beside_the_one_that_it_has():
    whole = held("deepseek-v2-lite").net
    names = [
        name for name in whole.weights if name.endswith(("attn_k_b.weight", "attn_v_b.weight"))
    ]
    one = {n: w for n, w in whole.weights.items() if n not in names}
    kind = whole.weights["blk.0.attn_v_b.weight"]
    for i in range(27):
        kv = f"blk.{i}.attn_kv_b.weight"
        one[kv] = replace(kind, name=kv, ne=(512, 16 * 256), nbytes=kind.nbytes * 2)
    made = complete(replace(whole, weights=one)).made
    assert made == {name: name[: name.index("attn")] + "attn_kv_b.weight" for name in names}


def test_a_card_without_layers_is_used_by_names():
    found = answer(
        MIXTURE, **ASKED | {"n_gpu_layers": 0, "override_tensor": ("exps=CUDA1",)}, gpu="2xh100"
    )
    gpus = {d.index: d for d in found.devices if d.kind == "gpu"}
    assert part(gpus[1].phases[0], "weights") == 48 * (LAYER + MORE)


def test_hidden_states_go_to_experts_on_another_card_and_back():
    own, other = (
        held(override_tensor=(said,), **TWO)
        for said in (r"blk\.[0-3]\..*exps=CUDA0", r"blk\.[0-3]\..*exps=CUDA1")
    )
    assert sent(other) - sent(own) == 4 * 2 * 4 * 2048


# What is said of it


def test_a_pattern_that_places_nothing_is_named():
    found = answer(MIXTURE, **ASKED, override_tensor=("exps=CPU", "ffn_up_exps=CUDA0", "x=CPU"))
    told = [w for w in found.warnings if "places no tensor" in w]
    assert [w.split("'")[1] for w in told] == ["ffn_up_exps=CUDA0", "x=CPU"]


def test_nothing_is_moved_by_itself_beside_names():
    """common/fit.cpp: tensor_buft_overrides already set by user, abort."""
    small = {"gpu": "rtx-3060-12gb"}
    assert answer(MIXTURE, **ASKED | small).divisions
    assert not answer(MIXTURE, **ASKED | small, override_tensor=("x=CPU",)).divisions


def test_the_line_to_paste_has_names_before_the_flag_that_has_the_rest():
    found = answer(MIXTURE, **ASKED, override_tensor=(r"ffn_(up|x)\.=CPU", "b=CUDA0"), n_cpu_moe=3)
    assert r"-ot 'ffn_(up|x)\.=CPU,b=CUDA0' -ncmoe 3" in found.derived["launch"]
    assert found.settings["override_tensor"] == [r"ffn_(up|x)\.=CPU", "b=CUDA0"]
    assert answer(MIXTURE, **ASKED).settings["override_tensor"] is None


ONE_LINE = [
    (["-ot", "exps=CUDA1"], "no CUDA1 among 1 GPU"),
    (["-ot", "exps"], "'exps' has no buffer"),
    (["-ot", "a[=CPU"], "not closed"),
    (["-ot", r"blk\.[0-9]{1,2}=CPU"], "a comma ends a pattern"),  # a comma ends a pattern
]


@all_of(("flags", "says"), ONE_LINE)
def test_a_wrong_pattern_is_one_line_and_wrong_usage(flags, says, capsys):
    asked = ["infer", MIXTURE, "--engine", "llama.cpp", "--gpu", "4090", *flags]
    assert run(asked) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


@pytest.mark.slow
def test_the_option_may_be_repeated(capsys):
    asked = ["infer", MIXTURE, "--engine", "llama.cpp", "--context", "4096", "-q"]
    assert run([*asked, "-ot", "ffn_up_exps=CPU", "-ot", "ffn_down_exps=CPU"]) == 0
    twice = capsys.readouterr().out
    assert run([*asked, "-ot", "ffn_up_exps=CPU,ffn_down_exps=CPU"]) == 0
    assert twice == capsys.readouterr().out


# Experts that a search places


def placed(rooms, stack="cuda", **more):
    """Return the first patterns where each card has room for so many experts' bytes beside what it
    holds, and how many layers' experts each device has then."""
    empty = held(n_cpu_moe=99, **TWO | more)
    beside = [empty.weights[d] + empty.kv(d) + empty.state(d) + fixed(empty, d) for d in range(2)]
    rooms = [n + room for n, room in zip(beside, rooms, strict=True)]
    (said, *_) = (change["override_tensor"] for change in by_name(empty, rooms, stack))
    found = held(override_tensor=said, **TWO | more)
    plain = held(**TWO | more)
    return said, [found.weights[d] - plain.weights[d] for d in range(3)]


ONE = LAYER + MORE


def test_cards_keep_the_experts_of_their_first_layers():
    """25 and 23 layers and the output: of each so many stay, and the rest is the host's."""
    said, moved = placed([3 * ONE, 23 * ONE])
    assert said == (r"blk\.([3-9]|1[0-9]|2[0-4])\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU",)
    assert moved == [-22 * ONE, 0, 22 * LAYER]


def test_a_card_with_room_has_experts_of_others():
    said, moved = placed([0, 25 * ONE])
    assert said[0] == r"blk\.([01])\.ffn_(up|down|gate|gate_up)_(ch|)exps=CUDA1"
    assert said[1] == r"blk\.([2-9]|1[0-9]|2[0-4])\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"
    assert moved == [-25 * ONE, 2 * ONE, 23 * LAYER]
    assert placed([0, 25 * ONE], "hip")[0][0].endswith("exps=ROCm1")
    alone, _ = placed([0, 25 * ONE], "own")  # cards whose buffers have other names
    assert alone == (r"blk\.([0-9]|1[0-9]|2[0-4])\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU",)


def test_what_is_left_has_the_largest_matrix_of_a_layer():
    """A down matrix is padded on a card, and so the largest of three."""
    said, moved = placed([23 * ONE + LAYER // 3 + MORE, 23 * ONE])
    assert said == (
        r"blk\.(23)\.(ffn_gate_exps|ffn_up_exps)\.=CPU",
        r"blk\.(24)\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU",
    )
    assert moved == [-ONE - 2 * LAYER // 3, 0, LAYER + 2 * LAYER // 3]


def test_ever_more_is_left_free():
    empty = held(n_cpu_moe=99, **TWO)
    told = [change["override_tensor"] for change in by_name(empty, [6 << 30] * 2, "cuda")]
    hosts = [held(override_tensor=said, **TWO).weights[2] for said in told]
    assert len(set(told)) == len(told) > 3
    assert hosts == sorted(hosts)
