"""Changes of serving, each by hand: when it is offered, what it changes, what it leaves."""

import pytest

import weighbridge
from tests.cases import all_of
from tests.remedies.made import case, of_kind
from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.serving import moves
from weighbridge.base.units import GIB

GPU = "a100-80gb"


def found(kind, **settings):
    return of_kind(moves(case("infer", **settings)), kind)


def offered(kind, **settings):
    return [dict(m.change) for m in found(kind, **settings)]


TENSOR, PIPELINE = "tensor_parallel_size", "pipeline_parallel_size"


@all_of(
    ("count", "changes"),
    [
        (1, []),
        (2, [{TENSOR: 2}, {PIPELINE: 2}]),
        (8, [{TENSOR: 8}, {PIPELINE: 8}]),
        (12, [{TENSOR: 8}, {PIPELINE: 8}]),
        (16, [{TENSOR: 8}, {TENSOR: 8, PIPELINE: 2}]),
    ],
)
def test_cards_that_are_there_are_used(count, changes):
    """Share by tensors within a machine of eight, by layers between machines."""
    asked = {"gpu": f"{GPU}:{count}", "engine": "vllm"}
    assert offered("parallel", **asked) == changes
    assert offered("parallel", **asked, pinned=(TENSOR,)) == []
    assert offered("parallel", **asked, tensor_parallel_size=2) == []
    assert offered("parallel", **{**asked, "engine": "transformers"}) == []


def test_what_ranks_hold_each():
    tensor, pipeline = found("parallel", gpu=f"{GPU}:16", engine="vllm")
    assert tensor.keeps == dict.fromkeys(("weights", "kv_cache", "logits", "activations"), 1 / 8)
    assert pipeline.keeps["weights"] == 1 / 16


@all_of(
    ("settings", "said"),
    [
        ({"engine": "vllm", "gpu": "4090"}, True),
        (
            {"engine": "vllm", "gpu": "a100-80gb"},
            True,
        ),  # it reads float8, and multiplies in 16 bits
        ({"engine": "vllm", "gpu": "t4"}, False),
        ({"engine": "llama.cpp"}, True),
        ({"engine": "llama.cpp", "cache_type_k": "f16"}, True),
        ({"engine": "llama.cpp", "cache_type_k": "q8_0"}, False),
        ({"engine": "vllm", "gpu": "4090", "kv_cache_dtype": "auto"}, True),
        ({"engine": "vllm", "gpu": "4090", "kv_cache_dtype": "fp8"}, False),
        ({"engine": "llama.cpp", "cache_type_v": "q4_0"}, False),
        ({"engine": "llama.cpp", "pinned": ("cache_type_v",)}, False),
    ],
)
def test_keys_and_values_in_eight_bits(settings, said):
    assert bool(found("kv cache", **settings)) is said


def test_files_of_llama_cpp_have_keys_and_values_in_four_bits_as_well():
    four = {"cache_type_k": "q4_0", "cache_type_v": "q4_0"}
    assert offered("kv cache", engine="llama.cpp")[1:] == [four]
    assert offered("kv cache", engine="ollama")[1:] == [{"kv_cache_dtype": "q4_0"}]
    assert offered("kv cache", engine="vllm")[1:] == []


@all_of(
    ("settings", "said"),
    [
        ({"engine": "vllm", "gpu": "a100-80gb"}, True),
        ({"engine": "sglang", "gpu": "4090"}, True),
        ({"engine": "vllm", "gpu": "t4"}, False),
        ({"engine": "vllm", "gpu": "4090", "pinned": ("quantization",)}, False),
        ({"engine": "vllm", "gpu": "4090", "quantization": "awq-4bit-g128"}, False),
        ({"engine": "llama.cpp"}, False),
    ],
)
def test_weights_and_cache_in_eight_bits_at_once(settings, said):
    both = found("8 bits", **settings)
    assert bool(both) is said
    for move in both:
        assert move.change["quantization"] == "fp8"
        assert "kv_cache_dtype" in move.change
        assert move.alone
        assert move.leaves == {"weights": 0.5}
        assert {"weights", "kv_cache"} <= move.touches


def test_graphs_can_be_left_out_once():
    assert offered("graphs", engine="vllm") == [{"enforce_eager": True}]
    assert offered("graphs", engine="vllm", enforce_eager=True) == []
    assert offered("graphs", engine="vllm", pinned=("enforce_eager",)) == []


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"attention": "eager"}, [{"attention": "efficient"}]),
        ({"attention": "flash"}, []),
        ({"attention": "eager", "engine": "vllm"}, []),
        ({"attention": "math", "architecture": "Gemma2ForCausalLM"}, [{"attention": "flash"}]),
    ],
)
def test_attention_without_scores(settings, changes):
    assert offered("attention", **settings) == changes


@all_of(
    ("context", "known", "shorter"),
    [
        (8192, None, [4096, 2048, 1024]),
        (2048, None, [1024, 512]),
        (1023, None, []),
        (8192, 5000, [5000]),
        (8192, 512, [512]),
        (8192, 511, []),
        (8192, 8192, []),
    ],
)
def test_contexts_of_512_tokens_at_least(context, known, shorter):
    derived = {} if known is None else {"largest_context": known}
    assert offered("context", context=context, derived=derived) == [{"context": n} for n in shorter]
    assert offered("context", context=context, derived=derived, pinned=("prompt_len",)) == []


@all_of(
    ("batch", "known", "fewer"),
    [(8, None, [4, 2, 1]), (3, None, [1]), (1, None, []), (8, 5, [5]), (8, 0, []), (8, 8, [])],
)
def test_fewer_requests(batch, known, fewer):
    derived = {} if known is None else {"largest_batch_size": known}
    assert offered("batch", batch_size=batch, derived=derived) == [{"batch_size": n} for n in fewer]
    assert offered("batch", batch_size=None) == []


LLAMA = {"engine": "llama.cpp", "n_gpu_layers": 32}


@all_of(
    ("fewest", "experts"),
    [(10, [10, 11, 12]), (30, [30, 31]), (32, []), (None, []), (1, [1, 2, 3])],
)
def test_experts_on_the_host(fewest, experts):
    """Try as few layers' as fit, and two more; all of them are no change of experts alone."""
    derived = {"n_cpu_moe_that_fits": fewest}
    assert [c["n_cpu_moe"] for c in offered("experts", **LLAMA, derived=derived)] == experts


@pytest.mark.parametrize(("most", "layers"), [(10, [10, 9, 8]), (2, [2, 1]), (0, []), (None, [])])
def test_layers_on_the_host(most, layers):
    """Try as many layers on the card as fit, and up to two less."""
    derived = {"n_gpu_layers_that_fit": most}
    found_ = found("layers", **LLAMA, derived=derived)
    assert [m.change["n_gpu_layers"] for m in found_] == layers
    assert offered("layers", **LLAMA, derived=derived, pinned=("n_gpu_layers",)) == []
    beside = found("layers", **LLAMA, derived=derived, pinned=("n_cpu_moe",))
    assert [m.change["n_gpu_layers"] for m in beside] == layers
    assert offered("layers", n_gpu_layers=32, derived=derived) == []


def test_one_number_that_was_typed_leaves_the_other_open():
    derived = {"n_cpu_moe_that_fits": 10, "n_gpu_layers_that_fit": 10}
    for pinned, other in (("n_gpu_layers", "experts"), ("n_cpu_moe", "layers")):
        mine = {"experts": "layers", "layers": "experts"}[other]
        assert offered(other, **LLAMA, derived=derived, pinned=(pinned,))
        assert offered(mine, **LLAMA, derived=derived, pinned=(pinned,)) == []


@pytest.mark.parametrize(
    ("engine", "dtype", "packs"),
    [
        ("vllm", "float16", True),
        ("sglang", "bfloat16", True),
        ("vllm", "float32", False),
        ("transformers", "float16", False),
    ],
)
def test_16_bits_of_a_server_are_what_it_computes_in(engine, dtype, packs):
    asked = {"engine": engine, "dtype": dtype}
    assert bool(offered("quantization", **asked, pinned=("dtype",))) is packs
    assert offered("quantization", **asked, pinned=("dtype", "quantization")) == []


def test_what_the_host_takes():
    (first, *_) = found("layers", **LLAMA, derived={"n_gpu_layers_that_fit": 24})
    assert first.keeps == {"weights": 0.01, "kv_cache": 0.01}
    assert first.points == 20, "8 of 32 layers, 400 % slower where all are there"
    (first, *_) = found("experts", **LLAMA, derived={"n_cpu_moe_that_fits": 8})
    assert first.points == 7.5, "150 % slower"


@pytest.mark.parametrize(
    ("needs", "away"), [(90, [11.0, 13.0]), (80, [1.0, 3.0]), (70, [1.0, 3.0]), (81, [2.0, 4.0])]
)
def test_what_is_lacking_goes_to_the_host(needs, away):
    """A card of 80 GiB lacks what is too much, whole GiB of it, and one or three more."""
    moves_ = found("offload", engine="vllm", needs=needs * GIB)
    assert [m.change["cpu_offload_gb"] for m in moves_] == away
    assert offered("offload", engine="vllm", pinned=("cpu_offload_gb",)) == []
    assert offered("offload", engine="transformers") == []


def test_what_crosses_the_bus():
    """11 of 90 GiB for every token: 64 times slower where all of it does, by the 2,039 GB/s of an
    A100 and the bus; 800 % of a card of unknown bandwidth; of next to nothing all."""
    first, _ = found("offload", engine="vllm", needs=90 * GIB)
    assert first.points == pytest.approx(20 * 2039 / 32 * 11 / 90, rel=0.01)
    unknown, _ = found("offload", engine="vllm", gpu="mi325x", needs=90 * GIB)
    assert unknown.points == pytest.approx(160 * 11 / 90)
    first, _ = found("offload", engine="vllm", gpu="mi325x", needs=1)
    assert first.points == 160


def test_files_of_llama_cpp_run_what_the_card_has_no_room_for():
    forms = [c["quantization"] for c in offered("engine")]
    assert forms[0].startswith("Q8")
    assert "Q4_K_M" in forms
    assert offered("engine", quantization="mxfp4") == [{"engine": "llama.cpp"}]
    assert offered("engine", quantization="nf4") == []
    assert "Q4_K_M" in [c.get("quantization") for c in offered("engine", quantization="fp8-block")]
    assert offered("engine", engine="vllm") == []
    assert offered("engine", pinned=("dtype",)) == []


def test_what_files_leave():
    """The mixture that is usual is asked in any case; of another surely its bits of 16 remain."""
    by_form = {m.change["quantization"]: m for m in found("engine")}
    assert by_form["Q4_K_M"].leaves == {}
    assert by_form["Q4_K_M"].touches == {"*"}
    assert by_form["Q4_K_M"].keeps == {"weights": 5.5 / 16}
    assert by_form["Q8_0"].leaves == {"weights": 8.5 / 16}
    assert by_form["Q8_0"].keeps == {"weights": 9.5 / 16}
    assert "*" not in by_form["Q8_0"].touches


@pytest.mark.parametrize(("count", "ranks"), [(1, None), (2, 2), (16, 8)])
def test_cards_that_share_a_model_under_a_server(count, ranks):
    servers = [c for c in offered("engine", gpu=f"{GPU}:{count}") if TENSOR in c]
    assert servers == ([{"engine": "vllm", TENSOR: ranks}] if ranks else [])
    assert [c for c in offered("engine", gpu="m4-24gb") if TENSOR in c] == []


def test_prompts_that_a_machine_has_no_room_for():
    """llama-server keeps 8 GiB of prompts in host memory if it may (--cache-ram 8192)."""
    asked = {"engine": "llama.cpp", "quantization": "Q4_K_M", "n_gpu_layers": 0, "ram": "12GiB"}
    report = weighbridge.infer("llama-3.1-8b", **asked)
    assert (report.verdict.fits, report.verdict.count) == ("unknown", 0)
    first = report.remedies[0]
    assert (dict(first.change), first.fits) == ({"cache_ram": 0}, "yes")
    screen = str(report)
    assert "too close to call" in screen
    assert "0.0 GiB" not in screen
    assert weighbridge.infer("llama-3.1-8b", **asked | {"ram": "16GiB"}).verdict.fits == "yes"


def test_layers_are_dealt_out_over_cards_that_differ():
    """What the engine looked for is offered with a few more layers on the host, and what moves none
    is no slower."""
    derived = {"placement_that_fits": {"n_cpu_moe": 10, "tensor_split": (30, 3)}}
    moved = found("experts", **LLAMA, derived=derived)
    assert [m.change["n_cpu_moe"] for m in moved if "tensor_split" in m.change] == [10, 11, 12, 13]
    assert moved[0].change["tensor_split"] == (30, 3)
    assert offered("experts", **LLAMA, derived=derived, pinned=("tensor_split",)) == []
    whole = {"n_gpu_layers": LLAMA["n_gpu_layers"], "tensor_split": (20, 13)}
    (first, second, *_) = found("layers", **LLAMA, derived={"placement_that_fits": whole})
    assert first.cost.price.speed == 0 < second.cost.price.speed


@pytest.mark.slow
def test_a_mixture_over_unlike_cards_is_placed():
    """Without -ts the first 76 layers, whose experts are the host's, would be on both cards: 89 of
    them have to be (answers.py) where the program deals layers out by what is free."""
    asked = {"engine": "llama.cpp", "engine_version": "7000", "gpu": "4090+3060", "ram": "256GiB"}
    report = weighbridge.infer("qwen3-235b-a22b", quantization="Q4_K_M", **asked)
    first = report.remedies[0]
    assert first.fits == "yes"
    assert first.change["n_cpu_moe"] + 10 < report.derived["n_cpu_moe_that_fits"]
    assert sum(first.change["tensor_split"]) == 95


def second_caches(report):
    return [
        (name, value, remedy.fits)
        for remedy in report.remedies
        for name, value in remedy.change.items()
        if name in ("kv_offloading_size", "hicache_size")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"engine": "vllm", "kv_offloading_size": 200}, "kv_offloading_size"),
        (
            {"engine": "sglang", "enable_hierarchical_cache": True, "hicache_size": 200},
            "hicache_size",
        ),
        (
            {"engine": "sglang", "enable_hierarchical_cache": True, "hicache_ratio": 6},
            "hicache_size",
        ),
    ],
)
def test_a_second_cache_gets_smaller_where_it_takes_the_host_memory(asked, name):
    """Asked again with it, the same machine is enough, and with a half more it is not."""
    asked = {"gpu": "h100", "ram": "96GiB", **asked}
    report = weighbridge.infer("llama-3.1-8b", **asked)
    assert report.verdict.host.fits == "no"
    ((found, size, fits),) = second_caches(report)
    assert (found, fits) == (name, "yes")
    again = weighbridge.infer("llama-3.1-8b", **{**asked, name: size})
    assert again.verdict.fits == "yes"
    assert weighbridge.infer("llama-3.1-8b", **{**asked, name: 2.5 * size}).verdict.fits != "yes"


def test_a_second_cache_stays_where_the_host_has_room():
    asked = {"engine": "vllm", "gpu": "t4", "kv_offloading_size": 8, "ram": "256GiB"}
    report = weighbridge.infer("llama-3.1-8b", **asked)
    assert report.verdict.fits == "no"
    assert second_caches(report) == []


def test_a_smaller_second_cache_costs_by_what_it_loses():
    small, large = prices.less_beside(100, 25, "GB"), prices.less_beside(100, 75, "GB")
    assert small.price.points == pytest.approx(3 * large.price.points)
    assert small.words.startswith("25 GB of the cache in host memory instead of 100: ")
