"""Ollama: buffers that its llama-server logged, its defaults by hand, its lines, and laws."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import weighbridge
from tests.ask import usual
from tests.cases import all_of
from tests.engines.answers import answer, named, part
from tests.engines.serving import served
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.format_choice import kept_packed
from weighbridge.engines.llama_cpp import answers
from weighbridge.engines.ollama import library
from weighbridge.engines.ollama.dialect import read
from weighbridge.engines.ollama.effective import _automatic, predicted
from weighbridge.engines.ollama.infer import human, processor
from weighbridge.engines.ollama.layer_formula import Reckoned, place
from weighbridge.engines.ollama.rules import (
    BUILDS,
    build,
    flash_attention_before,
    own_runner,
    usual_context,
)
from weighbridge.engines.table import record
from weighbridge.memory.components.weights import FormatChoice, weight_bytes
from weighbridge.models import catalogue
from weighbridge.models.catalogue import everyday, ollama_tags
from weighbridge.models.quantization.ggml import by_ollama
from weighbridge.models.quantization.schemes import scheme

asked = usual(answer, "llama-3.1-8b", engine="ollama", quantization="Q4_K_M", context=4096)


def mib(found, name, detail=""):
    """Return MiB of a component on every device, the host last, while the model runs."""
    return [part(d.phases[1], name, detail) / MIB for d in found.devices]


# Logs


def test_a_model_on_one_device():
    """Llama 3.2 3B Q4_K_M (ollama llm/llama_server_test.go): 1,918.35 MiB of model, 448 of cache;
    308.23 stay with the host."""
    found = asked("llama-3.2-3b")
    assert mib(found, "weights") == pytest.approx([1918.35, 308.23], abs=0.01)
    assert mib(found, "kv_cache")[0] == 448


def test_a_model_on_two_cards():
    """The same file over two cards with 32,768 tokens: 1,920 and 1,664 MiB of cache."""
    found = asked("llama-3.2-3b", context=32_768, gpu="3060:2", split_mode="layer")
    assert mib(found, "kv_cache")[:2] == [1920, 1664]
    assert sum(mib(found, "weights")[:2]) == pytest.approx(852.89 + 1065.46, abs=0.02)


def test_without_flash_attention():
    """phi-4 (ollama issue 13552; llama.cpp of December 2025, whose graph is that of 0.30.0): 800
    MiB of cache, 353.01 of compute buffer; 275.62 stay with the host."""
    found = asked("phi-4", flash_attn="off", engine_version="0.30.0")
    assert mib(found, "kv_cache")[0] == 800
    assert mib(found, "activations")[0] == pytest.approx(353.01, abs=0.01)
    assert mib(found, "weights") == pytest.approx([8354.71, 275.62], rel=0.001)


def test_a_long_context_has_a_large_batch():
    """Qwen3-4B (pull request 16031, 0.30): n_ctx 262,144, n_batch and n_ubatch 2,048; 974.88 and
    1,401.03 MiB of model on cards, 304.28 with the host."""
    found = asked("qwen3-4b", context=40_960, engine_version="0.30.0")
    assert found.settings["n_batch"] == 2048
    assert mib(found, "weights") == pytest.approx([974.88 + 1401.03, 304.28], abs=0.01)


# Defaults


@all_of(("gib", "tokens"), [(8, 4096), (22.9, 4096), (23, 32_768), (46.9, 32_768), (47, 262_144)])
def test_context_by_memory(gib, tokens):
    """docs/context-length.mdx; 23 and 47 GiB for 24 and 48 (server/routes.go)."""
    assert usual_context(int(gib * GIB), (0, 33)) == tokens


@all_of(
    ("version", "number"),
    [((0, 30), 9452), ((0, 30, 3), 9479), ((0, 31), 9840), ((0, 32), 9888), ((0, 33), 10488)],
)
def test_builds_of_llama_cpp(version, number):
    assert build(version) == number


def test_builds_only_grow():
    assert list(BUILDS.values()) == sorted(BUILDS.values())
    assert list(BUILDS) == sorted(BUILDS)


@all_of(
    ("tokens", "needed", "room", "batch"),
    [
        (4096, 1, 0, 512),
        (4097, 1, 0, 1024),
        (32_769, 1, 0, 2048),
        (32_769, 13, 24, 2048),  # 60 % of 24 are 14.4; 13 and 2 are within 80 %
        (32_769, 15, 24, 1024),  # beyond 60 %, within 75 %
        (32_769, 19, 24, 512),  # beyond 75 %
        (8192, 5.3, 7, 512),  # 0.75 more would be beyond 80 %
    ],
)
def test_batches_by_hand(tokens, needed, room, batch):
    """server/sched.go (automaticGenerationBatch, generationBatchFits)."""
    assert _automatic(tokens, int(needed * GIB), room * GIB) == batch


@pytest.mark.slow
@given(
    st.integers(1, 1 << 18),
    st.integers(1, 100 * GIB),
    st.integers(1, 100 * GIB),
    st.integers(0, 50 * GIB),
)
@settings(deadline=None)
def test_laws_of_batches(tokens, needed, room, more):
    """More room is never a smaller batch, a longer context with all the room neither."""
    assert _automatic(tokens, needed, room) <= _automatic(tokens, needed, room + more)
    assert _automatic(tokens, needed, 0) <= _automatic(2 * tokens, needed, 0)
    assert _automatic(tokens, needed, room) <= _automatic(tokens, needed, 0)


def test_requests_at_once_are_parallel_ones():
    found = asked(batch_size=4)
    assert (found.settings["parallel"], found.settings["n_ctx"]) == (4, 4 * 4096)
    assert mib(found, "kv_cache")[0] == 4 * 512


def test_architectures_that_answer_alone():
    """server/sched.go (load): qwen3next."""
    found = asked("qwen3-next-80b-a3b", parallel=4)
    assert found.settings["parallel"] == 1
    assert any("one request at a time" in w for w in found.warnings)


def test_a_context_is_no_longer_than_the_model():
    found = asked("llama-3.2-3b", context=200_000)
    assert found.settings["context"] == 131_072
    assert any("lowers num_ctx" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("card", "workload", "flash", "batch"),
    [
        ("4090", {"context": 8192}, "auto", 1024),
        ("k80", {"context": 8192}, "off", 512),  # compute capability 3.7
        ("k80", {"context": 8192, "gpu_memory": "8GiB"}, "off", 256),
        ("k80", {"context": 4096, "gpu_memory": "8GiB"}, "off", 512),
        ("m3 max 64gb", {"context": 8192}, "auto", 1024),
        ("4090", {"context": 8192, "flash_attn": "off"}, "off", 512),
        ("4090", {"context": 8192, "n_batch": 64}, "auto", 64),
    ],
)
def test_flash_attention_and_batch_by_card(card, workload, flash, batch):
    found = asked("llama-3.2-3b", gpu=card, **workload).settings
    assert (found["flash_attn"], found["n_batch"]) == (flash, batch)


@pytest.mark.slow
def test_one_card_holds_what_fits_it():
    """Within 80 % of one card's free memory; OLLAMA_SCHED_SPREAD shares it out all the same."""
    cards = [
        [d for d in asked(gpu="3090:2", **more).devices if d.kind == "gpu"]
        for more in ({}, {"split_mode": "layer"}, {"context": 131_072})
    ]
    assert [len(found) for found in cards] == [1, 2, 2]


def test_its_own_estimate():
    """llm/llama_server.go (PredictServerVRAM): the file, and 32 layers x 8 heads x 128 values x 2
    x 2 bytes a token."""
    net = answers.known_network(served("llama-3.1-8b", "ollama", quantization="Q4_K_M"))
    assert predicted(net, 8192) - predicted(net, 0) == GIB
    assert predicted(net, 0) == sum(t.nbytes for t in net.weights.values())


def test_without_a_card_files_are_read():
    """mmap is off where all is on the host (disableMmapDefaultReason)."""
    assert asked(n_gpu_layers=0).settings["no_mmap"]
    assert not asked().settings["no_mmap"]


def test_a_tag_has_its_tower():
    found = asked("gemma-3-4b")
    assert part(found.devices[0].phases[0], "weights", "mmproj") > 800 * MIB
    assert not any("-hf" in line for line in found.warnings)


# What it shows


@all_of(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1_500_000, "1.5 MB"),
        (999_999_999, "999 MB"),
        (2_750_000_000, "2.8 GB"),
        (3 * 10**9, "3 GB"),
        (42_900_000_000, "42 GB"),
        (10**12 - 1, "999 GB"),
        (10**12, "1 TB"),
    ],
)
def test_sizes_as_it_writes_them(nbytes, text):
    """format/bytes.go (HumanBytes)."""
    assert human(nbytes) == text


def test_parts_as_it_writes_them():
    """docs/faq.mdx: 48%/52% CPU/GPU."""
    assert processor(100, 0) == "100% CPU"
    assert processor(100, 100) == "100% GPU"
    assert processor(100, 52) == "48%/52% CPU/GPU"


def test_ollama_ps_is_the_buffers_of_the_log():
    found = asked()
    names = ("weights", "kv_cache", "activations")
    assert found.derived["ollama_ps_bytes"] == sum(mib(found, n)[0] for n in names) * MIB
    assert found.derived["ollama_ps"].endswith("GB, 100% GPU")
    assert "CPU/GPU" in asked(n_gpu_layers=10).derived["ollama_ps"]


# Lines


@pytest.mark.parametrize(
    ("card", "tokens"),
    [(None, 4096), ("3060", 4096), ("4090", 32_768), ("a100-80gb", 131_072), ("4090:2", 131_072)],
)
def test_a_command_leaves_the_context_to_ollama(card, tokens):
    """No more than the model was made for: Llama 3.1 has 131,072."""
    found = answer("llama-3.1-8b", engine="ollama", engine_defaults=True, gpu=card)
    assert found.settings["context"] == tokens


@all_of(
    ("settings", "tokens"),
    [
        ({"gpu": "4090"}, 32_768),  # what `ollama run` takes on that card
        ({"gpu": "3060"}, 4096),
        ({"gpu": "4090", "context": 2048}, 2048),
        ({"gpu": "4090", "prompt_len": 100}, 100),
        ({"gpu": "4090", "context": 200_000}, 131_072),  # the model's maximum, to which it lowers
        ({}, 4096),
    ],
)
def test_an_unnamed_length_is_that_of_ollama_run(settings, tokens):
    assert answer("llama-3.1-8b", engine="ollama", **settings).settings["context"] == tokens


def test_tags_are_q4_k_m():
    plain, named = (
        answer("llama-3.1-8b", engine="ollama", quantization=q) for q in (None, "Q4_K_M")
    )
    assert plain.devices == named.devices
    assert answer("gpt-oss-20b", engine="ollama").devices != plain.devices  # mxfp4 stays


def test_a_line_says_what_was_sized():
    line = asked(batch_size=2, kv_cache_dtype="q8_0", flash_attn="on").derived["launch"]
    assert line == (
        "OLLAMA_CONTEXT_LENGTH=4096 OLLAMA_NUM_PARALLEL=2 OLLAMA_FLASH_ATTENTION=1 "
        "OLLAMA_KV_CACHE_TYPE=q8_0 ollama serve & sleep 5; ollama run llama3.1:8b"
    )
    launch = read(line)
    assert launch.model == "llama3.1:8b"
    assert launch.settings == {
        "context": 4096,
        "parallel": 2,
        "flash_attn": "on",
        "kv_cache_dtype": "q8_0",
    }
    assert launch.warnings == ()


@all_of(
    ("text", "model", "settings"),
    [
        ("ollama run llama3.1:8b", "llama3.1:8b", {}),
        ("ollama run llama3.1:latest 'why is the sky blue?'", "llama3.1", {}),
        ("OLLAMA_CONTEXT_LENGTH=8192 ollama run qwen3:4b --verbose", "qwen3:4b", {"context": 8192}),
        ("ollama run m:8b-instruct-q8_0", "m:8b-instruct-q8_0", {"quantization": "Q8_0"}),
        ("ollama run m:8b-text-fp16", "m:8b-text-fp16", {"quantization": "F16"}),
        ("ollama run hf.co/a/b-GGUF:Q8_0", "a/b-GGUF:Q8_0", {}),
        ("ollama run hf.co/a/b-GGUF", "a/b-GGUF", {}),
        ("ollama run hf.co/a/b", "a/b:Q4_K_M", {}),
        (
            "export OLLAMA_SCHED_SPREAD=1\nollama serve &\nollama run m",
            "m",
            {"split_mode": "layer"},
        ),
        ("docker exec -it ollama ollama run llama3.2", "llama3.2", {}),
        ("OLLAMA_FLASH_ATTENTION=false ollama run m", "m", {"flash_attn": "off"}),
    ],
)
def test_lines_are_read(text, model, settings):
    found = read(text)
    assert (found.model, found.settings) == (model, settings)


def test_a_checkpoint_that_is_packed_is_not_packed_again():
    found = answer("gpt-oss-20b", engine="ollama", n_gpu_layers=4).derived
    assert found["launch"].endswith("ollama run gpt-oss-20b-own")
    assert "\nollama create gpt-oss-20b-own\n" in found["launch"]
    assert answer("gpt-oss-20b", engine="ollama").derived["launch"].endswith("run gpt-oss:20b")


def test_a_variable_that_keeps_nothing_free_is_said():
    assert "--headroom" in read("OLLAMA_GPU_OVERHEAD=1000 ollama run m").warnings[0]


@pytest.mark.parametrize("text", ["ollama serve", "ollama run a & ollama run b"])
def test_lines_that_run_no_one_model(text):
    with pytest.raises(UsageError, match="give one"):
        read(text)


def test_parameters_of_a_modelfile():
    """What has no variable (api/types.go, Runner)."""
    lines = asked(n_gpu_layers=20, no_mmap=True).derived["launch"]
    assert "\\nPARAMETER num_gpu 20\\nPARAMETER use_mmap false\\n" in lines


def test_values_are_packed_with_flash_attention_alone():
    with pytest.raises(UsageError, match="flash attention"):
        asked(kv_cache_dtype="q8_0", flash_attn="off")


@pytest.mark.slow
@pytest.mark.parametrize(
    "workload",
    [
        {"context": 8192, "gpu": "4090"},
        {"context": 4096, "gpu": "3090:2", "split_mode": "layer", "kv_cache_dtype": "q8_0"},
        {"context": 4096, "batch_size": 3, "flash_attn": "off", "quantization": "Q8_0"},
    ],
)
def test_the_line_alone_says_the_same(workload):
    """Beside it only the requests and the cards."""
    first = weighbridge.infer("llama-3.1-8b", engine="ollama", **workload)
    beside = {n: v for n, v in workload.items() if n in ("gpu", "batch_size")}
    again = weighbridge.infer(command=first.derived["launch"], **beside)
    assert again.devices == first.devices
    assert (
        again.derived["launch"].partition("ollama ")[0]
        == first.derived["launch"].partition("ollama ")[0]
    )


# Releases before 0.30


def net_of(name, form="Q4_K_M"):
    return answers.known_network(served(name, "ollama", quantization=form))


@pytest.mark.parametrize(
    ("name", "partial", "full", "cache", "size"),
    [("llama-3.2-3b", 570.7, 424.0, 896.0, 3.7), ("qwen2.5-0.5b", 405.0, 298.5, 96.0, 1.2)],
)
def test_the_formula_of_old_releases(name, partial, full, cache, size):
    """memory.graph.partial, memory.graph.full and memory.required.kv in MiB, memory.required.full
    in GiB, of 8,192 tokens for 4 requests on 78.6 GiB (ollama#8098; #9031)."""
    found = Reckoned(net=net_of(name), context=8192, parallel=4)
    assert [round(n / MIB, 1) for n in found.graphs] == [partial, full]
    assert sum(found.caches) == cache * MIB
    placed = place(found, (int(78.6 * GIB),))
    assert placed.layers == [len(found.net.layers) + 1]
    assert round(placed.size / GIB, 1) == size


def test_the_formula_on_four_cards():
    """ollama#9181: 44 of 81 layers on four cards of 22.0 GiB, 21.8 GiB each, 127.4 in all."""
    found = Reckoned(net=net_of("llama-3.1-70b", "Q8_0"), context=64_000, parallel=1)
    placed = place(found, (22 * GIB,) * 4)
    assert placed.layers == [11] * 4
    assert [round(n / GIB, 1) for n in placed.cards] == [21.8] * 4
    assert round(placed.size / GIB, 1) == 127.4


@pytest.mark.parametrize(
    ("name", "tokens", "release", "partial", "full", "cache"),
    [
        ("gpt-oss-20b", 8192, (0, 11), 4.0, 2.0, 300 / 1024),  # ollama#11711
        ("gpt-oss-20b", 8192, (0, 11, 3), 2.0, 2.0, 300 / 1024),
        ("gpt-oss-120b", 75_000, (0, 11, 5), 13.7, 13.7, 2.7),  # ollama#11982
    ],
)
def test_the_formula_of_gpt_oss(name, tokens, release, partial, full, cache):
    """memory.graph.partial, memory.graph.full and memory.required.kv, in GiB."""
    net = net_of(name, "MXFP4_MOE")
    found = Reckoned(net=net, context=tokens, parallel=1, flash=True, release=release)
    assert [round(n / GIB, 1) for n in found.graphs] == [partial, full]
    assert sum(found.caches) / GIB == pytest.approx(cache, abs=0.05)
    later = Reckoned(net=net, context=tokens, parallel=1, flash=True)
    assert later.graphs == ((4 + tokens // 1024 + 110) * MIB,) * 2


@pytest.mark.parametrize(
    ("name", "before_it", "since"),
    [
        ("gemma-3-4b", (0, 6, 2), (0, 6, 3)),  # windows of the cache
        ("gpt-oss-20b", (0, 11, 2), (0, 11, 3)),  # no twice as much where some layers are on cards
        ("gpt-oss-20b", (0, 11, 4), (0, 11, 5)),  # half as much
        ("gpt-oss-20b", (0, 11, 9), (0, 11, 10)),  # by the context, with flash attention
    ],
)
def test_the_formula_gets_smaller_with_one_release(name, before_it, since):
    def reckoned(release):
        return Reckoned(net=net_of(name), context=65_536, parallel=1, flash=True, release=release)

    old, new = reckoned(before_it), reckoned(since)
    assert sum(new.caches) + new.graphs[0] < sum(old.caches) + old.graphs[0]


B = 4 * 512  # bytes of a row of a batch in 32 bits


@pytest.mark.parametrize(
    ("name", "tokens", "partial", "full"),
    [  # fs/ggml/ggml.go (GraphSize), by hand: width, tokens, heads, vocabulary
        (
            "gemma-2-9b",
            8192,
            B * (3584 + 256_000) + 3584 * 256_000 * 105 // 128,
            B * (3584 + 256_000),
        ),
        (
            "gemma-2-9b",
            65_536,
            B * (2 * 3584 + 1 + 2 * 4096 + 65_536 * 17)
            + 4 * 256 * 65_536 * 8
            + 3584 * 4096 * 9 // 16,
            B * (2 + 65_536 * 17 + 2 * 3584 + 2 * 4096),
        ),
        (
            "mixtral-8x7b",
            8192,
            3 * (8 * 14_336 * 4096 * 144 // 256) + B * (2 * 14_336 + 8 + 4096 + 8192 + 1024),
            B * (1 + 4 * 4096 + 8192 * 33),
        ),
        (
            "mixtral-8x7b",
            32_768,
            4 * (32_768 * 512 * 32 + 32_768 * 1024 + 512 * 1024 + 1024 * 512),
            B * (1 + 4 * 4096 + 32_768 * 33),
        ),
        (
            "phi-2",
            2048,
            B * (2 * 2560 + 51_200) + 2560 * 51_200 * 105 // 128,
            B * (1 + 4 * 2560 + 2048 * 33),
        ),
        (
            "command-r-35b",
            8192,
            max(
                B * (8192 + 256_000) + 8192 * 256_000 * 105 // 128,
                B * (1 + 2 * 8192 + 8192 * 65) + 4 * 8192 * 8192 + 8192 * 8192 * 9 // 16,
            ),
            B * (2 + 4 * 8192 + 8192 * 65),
        ),
    ],
)
def test_the_formula_by_architecture(name, tokens, partial, full):
    found = Reckoned(net=net_of(name), context=tokens, parallel=1).graphs
    assert found == (partial, full)


def test_layers_that_are_asked_for_and_layers_of_none():
    found = Reckoned(net=net_of("llama-3.2-3b"), context=4096, parallel=1)
    assert place(found, (80 * GIB,), most=7).layers == [7]
    none = place(found, (GIB,))
    assert (none.layers, none.on_cards) == ([0], 0)
    metal = place(found, (80 * GIB,), metal=True)
    assert metal.size - place(found, (80 * GIB,)).size == 55 * MIB  # 512 in the place of 457


@pytest.mark.parametrize(
    ("release", "tokens", "slots"),
    [
        ("0.6.0", 2048, 4),
        ("0.6.7", 4096, 4),
        ("0.6.8", 4096, 2),
        ("0.9.6", 4096, 2),
        ("0.10.0", 4096, 1),
        ("0.15.4", 4096, 1),
        ("0.15.5", 32_768, 1),
    ],
)
def test_defaults_of_old_releases(release, tokens, slots):
    """envconfig/config.go, server/sched.go (defaultParallel), server/routes.go."""
    found = answer(
        "llama-3.1-8b", engine="ollama", engine_defaults=True, gpu="4090", engine_version=release
    )
    assert (found.settings["context"], found.settings["parallel"]) == (tokens, slots)
    assert found.settings["n_ctx"] == tokens * slots
    assert found.settings["n_batch"] == 512


def test_one_request_where_several_are_not_all_on_the_cards():
    """Llama 3.1 8B with 16,384 tokens on 8 GiB: twice the cache and its graph are too much."""
    found = asked(gpu="4090", gpu_memory="8GiB", context=8192, engine_version="0.9.0")
    assert found.settings["parallel"] == 1
    assert asked(gpu="4090", context=8192, engine_version="0.9.0").settings["parallel"] == 2


@pytest.mark.parametrize(
    ("name", "release", "asks", "found"),
    [
        ("llama-3.1-8b", "0.9.0", None, "off"),
        ("llama-3.1-8b", "0.9.0", "on", "on"),
        ("llama-3.1-8b", "0.13.3", None, "off"),
        ("llama-3.1-8b", "0.13.4", None, "auto"),
        ("qwen3-4b", "0.12.3", None, "off"),
        ("qwen3-4b", "0.12.4", None, "on"),
        ("gpt-oss-20b", "0.12.0", None, "on"),
        ("gemma-3-4b", "0.12.5", None, "off"),
        ("gemma-3-4b", "0.12.6", None, "on"),
        ("gemma-2-9b", "0.20.0", "on", "off"),
    ],
)
def test_flash_attention_of_old_releases(name, release, asks, found):
    told = asked(name, engine_version=release, flash_attn=asks)
    assert told.settings["flash_attn"] == found


@all_of(
    ("arch", "before_it", "since"),
    [  # fs/ggml/ggml.go (OllamaEngineRequired) of both releases
        ("gemma3", None, (0, 6)),
        ("mistral3", (0, 6, 3), (0, 6, 5)),
        ("llama4", (0, 6, 5), (0, 6, 8)),
        ("mllama", (0, 6, 8), (0, 7)),
        ("qwen25vl", (0, 6, 8), (0, 7)),
        ("gemma3n", (0, 9), (0, 11)),
        ("gptoss", (0, 9), (0, 11)),
        ("gpt-oss", (0, 9), (0, 11)),
        ("qwen3", (0, 11, 5), (0, 12)),
        ("qwen3moe", (0, 12), (0, 12, 4)),
        ("qwen3vl", (0, 12, 6), (0, 12, 7)),
        ("qwen3vlmoe", (0, 12, 6), (0, 12, 7)),
        ("deepseek2", (0, 12, 11), (0, 13)),
        ("nomic-bert", (0, 13), (0, 13, 1)),
        ("olmo3", (0, 13, 3), (0, 13, 4)),
        ("bert", (0, 13, 4), (0, 13, 5)),
        ("lfm2", (0, 14), (0, 15)),
        ("qwen3next", (0, 15), (0, 15, 5)),
        ("qwen35", (0, 17), (0, 18)),
        ("nemotron_h", (0, 17), (0, 18)),
        ("gemma4", (0, 19), (0, 20)),
        ("laguna", (0, 21), (0, 22)),
    ],
)
def test_architectures_of_its_own_runner(arch, before_it, since):
    assert own_runner(arch, since)
    assert own_runner(arch, (0, 29))
    assert not own_runner(arch, (0, 30))
    assert before_it is None or not own_runner(arch, before_it)


@all_of(
    ("arch", "before_it", "since"),
    [  # fs/ggml/ggml.go (FlashAttention) of both releases
        ("gpt-oss", (0, 11), (0, 12)),
        ("qwen3moe", (0, 12), (0, 12, 4)),
        ("gemma3", (0, 12, 4), (0, 12, 6)),
        ("qwen3vl", (0, 12, 7), (0, 12, 8)),
        ("mistral3", (0, 13, 1), (0, 13, 2)),
        ("lfm2", (0, 14), (0, 15)),
        ("qwen3next", (0, 15), (0, 15, 5)),
        ("qwen35", (0, 17), (0, 18)),
        ("gemma4", (0, 20), (0, 21)),
    ],
)
def test_architectures_that_flash_unasked(arch, before_it, since):
    assert (
        flash_attention_before(arch, since, None)
        == flash_attention_before(arch, (0, 29), None)
        == "on"
    )
    assert flash_attention_before(arch, before_it, None) in ("off", "auto")
    assert flash_attention_before(arch, since, "off") == "off"


@all_of(
    ("release", "number"),
    [
        ((0, 6), 4905),
        ((0, 6, 7), 5180),
        ((0, 9), 5354),
        ((0, 12, 3), 6150),
        ((0, 12, 4), 6646),
        ((0, 12, 11), 6840),
        ((0, 13, 2), 7108),
        ((0, 24), 7437),
    ],
)
def test_builds_of_old_releases(release, number):
    """llama/build-info.cpp; b6646, b6840 and b7108 are in the messages of their commits."""
    assert build(release) == number


def test_a_card_without_layers_has_no_graph():
    found = Reckoned(net=net_of("llama-3.2-3b"), context=4096, parallel=1)
    placed = place(found, (80 * GIB, GIB))
    assert placed.layers == [len(found.net.layers) + 1, 0]
    assert placed.cards[1] == 0


@pytest.mark.slow
def test_without_it_a_graph_is_context_times_heads():
    """96 heads x 512 tokens x 262,144 cells x 4 bytes: 48 GiB a card, and what lives beside. The
    formula's is 12 x the cache / 6, 124 GiB a card: no layer is put on one (ollama#14308)."""
    model, card = "qwen3-coder-480b-a35b", {"gpu": "h100:4", "context": 262_144}
    old, new = (asked(model, engine_version=v, **card) for v in ("0.12.3", "0.33"))
    assert mib(old, "activations")[0] > 48 * 1024 > 8 * mib(new, "activations")[0]
    assert old.derived["ollama_ps"].endswith("100% CPU")
    assert any("puts 0 of 63 layers" in said for said in old.warnings)


@pytest.mark.slow
def test_its_own_runner_lets_windows_slide_and_has_a_graph_of_its_own():
    """Gemma 3 is its own runner's from 0.6 on; Gemma 2 llama.cpp's, whose C interface keeps windows
    whole (llama_context_default_params, swa_full)."""
    own = asked("gemma-3-12b", context=32_768, engine_version="0.9.0", parallel=1)
    phase = own.devices[0].phases[1]
    assert part(phase, "kv_cache", "sliding") < part(phase, "kv_cache") / 4
    (compute,) = (c for c in phase.components if c.detail == "compute buffer")
    assert compute.bytes.high == 3 * compute.bytes.expected
    assert any("own runner computes gemma3" in said for said in own.warnings)
    whole = asked("gemma-2-9b", context=8192, engine_version="0.9.0", parallel=1)
    assert part(whole.devices[0].phases[1], "kv_cache") == 8192 * 42 * 2 * 8 * 256 * 2


def test_a_packed_cache_that_is_dropped_is_said():
    found = asked(kv_cache_dtype="q8_0", engine_version="0.9.0")
    assert found.settings["kv_cache_dtype"] == "f16"
    assert any("drops OLLAMA_KV_CACHE_TYPE=q8_0" in said for said in found.warnings)
    kept = asked(kv_cache_dtype="q8_0", flash_attn="on", engine_version="0.9.0")
    assert kept.settings["kv_cache_dtype"] == "q8_0"


@pytest.mark.slow
def test_what_ps_showed():
    """The formula to 0.12.10, of its own runner to 0.11.10; since then all buffers, and of its own
    runner the tower's weights, too."""
    for name, release, formula in (
        ("llama-3.2-3b", "0.12.10", True),
        ("llama-3.2-3b", "0.12.11", False),
        ("gemma-3-4b", "0.11.10", True),
        ("gemma-3-4b", "0.11.11", False),
    ):
        found = asked(name, gpu="4090", engine_version=release, parallel=1)
        names = ("weights", "kv_cache", "activations")
        tower = mib(found, "activations", "mmproj")[0]
        buffers = int((sum(sum(mib(found, n)) for n in names) - tower) * MIB)
        assert (found.derived["ollama_ps_bytes"] == buffers) != formula


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "form"),
    [
        ("gemma3:27b-it-qat", "Q4_0"),
        ("gpt-oss:20b", "MXFP4_MOE"),
        ("llama3.1:8b-instruct-fp16", "F16"),
        ("llama3.1:8b", "Q4_K_M"),
        ("deepseek-r1:671b", "Q4_K_M"),  # published in fp8
        ("llama2:13b", "Q4_0"),  # tags of before 2025
        ("llama2:7b-chat", "Q4_0"),
        ("llama3.2:1b", "Q8_0"),
        ("smollm2:360m", "F16"),
        ("nomic-embed-text:v1.5", "F16"),
    ],
)
def test_a_tag_is_sized_and_run_in_its_own_format(tag, form):
    found = weighbridge.infer(tag, engine="ollama")
    assert found.workload["quantization"] == form
    assert found.derived["launch"].endswith(f"ollama run {tag}")
    assert "launch_note" not in found.derived
    other = weighbridge.infer(tag, engine="ollama", quantization="Q6_K").derived
    assert f"run {tag}" not in other["launch"]
    note = other["launch_note"]
    assert note.startswith(
        sentence("in_parts") if "671b" in tag else "the lines before the last make"
    )


@pytest.mark.slow
@pytest.mark.parametrize("release", ["0.6", "0.9", "0.12", "0.29", "0.33"])
def test_a_command_of_any_release_has_all_layers_on_the_card(release):
    """Ollama tells its runner how many; the default of the build within, none, is not its own."""
    command = "OLLAMA_CONTEXT_LENGTH=4096 ollama run llama3.1:8b"
    found = weighbridge.infer(command=command, engine_version=release, gpu="4090")
    asked = weighbridge.infer(
        "llama3.1:8b", engine="ollama", engine_version=release, gpu="4090", context=4096
    )
    assert found.peak == asked.peak
    assert found.setting("n_gpu_layers") == 33


def test_a_folder_in_fp8_is_imported_as_it_is_and_no_tag():
    """ollama create unpacks it; what Ollama's library has of the model is another file."""
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    config = {**catalogue.find("qwen3-0.6b").config, "quantization_config": fp8}
    assert weighbridge.infer(config, engine="ollama").workload["quantization"] == "Q4_K_M"
    stored = replace(named("qwen3-0.6b").parts[0], quantization=fp8, stored=(object(),))
    assert kept_packed(stored)
    assert not kept_packed(replace(stored, stored=()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("magistral", "magistral:24b"),
        ("qwen3-8b", "qwen3:8b"),
        ("llama-3.1-8b", "llama3.1:8b"),
        ("llama-3.1-8b-instruct", "llama3.1:8b"),
        ("gpt-oss-20b", "gpt-oss:20b"),
        ("qwen3-30b-a3b", "qwen3:30b-a3b-q4_K_M"),  # 30b is the build of July 2025
        ("gemma3", "gemma3:4b"),
        ("llama-2-7b", "llama2:7b"),
        ("mixtral-8x7b", "mixtral:8x7b"),
    ],
)
def test_a_name_with_a_tag_is_run_by_it(name, tag):
    found = weighbridge.infer(name, engine="ollama")
    assert found.derived["launch"].endswith(f" ollama run {tag}")
    assert "launch_note" not in found.derived
    assert found.peak == weighbridge.infer(tag, engine="ollama").peak


@pytest.mark.parametrize("name", ["llama-7b", "qwen3-8b-q8_0", "qwen3-14b-awq"])
def test_a_name_without_such_a_tag_is_made(name):
    assert not library.tag_of(name)


def test_every_tag_of_the_library_is_one_model_of_ours():
    assert record("ollama").usual == ollama_tags.USUAL
    tags = list(ollama_tags.tags())
    assert any(library.tag_of(tag.replace(":", "-")) for tag in tags)
    assert len(set(library._by_model().values())) == len(tags)


# Sizes of tags in GB: src/ollama_models.py of github.com/Jeffser/Alpaca at 1ddb62fe5946
@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "size"),
    [
        ("llama2:7b", 3.8),
        ("mixtral:8x22b", 80),
        ("gemma2:9b", 5.4),
        ("starcoder2:15b", 9.1),
        ("phi3:3.8b", 2.2),
        ("smollm2:1.7b", 1.8),
        ("llama3.2:1b", 1.3),
        ("all-minilm:22m", 0.046),
        ("bge-large:335m", 0.671),
        ("llama3.1:8b", 4.9),
        ("deepseek-v3.1:671b", 404),
        ("qwen3-coder-next:q4_K_M", 52),  # ways down of all experts in Q6_K
        ("qwen3.5:122b", 81),
        ("gpt-oss:20b", 13.8),  # beside the experts in 16 bits
        ("gpt-oss:120b", 65),
        ("gemma4:e2b", 7.2),  # embeddings of each layer in 16 bits
        ("gemma4:e4b", 9.6),
    ],
)
def test_a_tag_is_as_large_as_its_library_lists_it(tag, size):
    """Files of Ollama's own quantizer, which is not llama.cpp's."""
    form = weighbridge.infer(tag, engine="ollama").workload["quantization"]
    choice = FormatChoice(dtype=BFLOAT16, scheme=by_ollama(scheme(form)))
    part = named(everyday.meaning(tag).entry.name).parts[0]
    assert weight_bytes(part, choice, major=5) == pytest.approx(size * 1e9, rel=0.016)


@pytest.mark.parametrize(
    ("name", "of_ollama", "of_llama_cpp"),
    [
        ("qwen3.6-35b-a3b", 22.20, 20.87),
        ("glm-4.7-flash", 18.20, 17.95),
        ("llama-3.1-8b", 4.62, 4.62),
        ("gpt-oss-20b", 12.62, 11.49),
    ],
)
def test_what_is_on_the_card_is_by_who_made_the_file(name, of_ollama, of_llama_cpp):
    """GB on the card, of one name: neither is told the other's."""
    form = "MXFP4_MOE" if name == "gpt-oss-20b" else "Q4_K_M"
    asked = {"ollama": {}, "llama.cpp": {"quantization": form}}
    found = {
        engine: weighbridge.infer(name, engine=engine, **settings).devices[0].phases[-1]
        for engine, settings in asked.items()
    }
    held = {
        engine: sum(
            c.bytes.expected for c in phase.components if c.name == "weights" and not c.detail
        )
        for engine, phase in found.items()
    }
    assert held["ollama"] / 1e9 == pytest.approx(of_ollama, abs=0.01)
    assert held["llama.cpp"] / 1e9 == pytest.approx(of_llama_cpp, abs=0.01)


def test_gemma_3n_has_no_towers_there():
    """convert/convert_gemma3n.go of ollama leaves them out: gemma3n:e4b is 7.5 GB."""
    phase = weighbridge.infer("gemma3n:e4b", engine="ollama").devices[0].phases[-1]
    assert not any(c.detail == "mmproj" for c in phase.components)


def test_a_repository_is_fetched_before_a_model_is_made_of_it():
    """FROM takes no id of the Hub: a folder, a file, or a model of Ollama's."""
    lines = weighbridge.infer("llama-7b", engine="ollama").derived["launch"].splitlines()
    assert lines[1:] == [
        "hf download huggyllama/llama-7b --local-dir llama-7b",
        "printf 'FROM ./llama-7b\\n' > Modelfile",
        "ollama create -q Q4_K_M llama-7b:q4_k_m",
        "ollama run llama-7b:q4_k_m",
    ]
    own = weighbridge.infer("mistral", engine="ollama", n_gpu_layers=10).derived["launch"]
    assert own.splitlines()[1:] == [
        "printf 'FROM mistral:7b\\nPARAMETER num_gpu 10\\n' > Modelfile",
        "ollama create mistral-7b-v0.3-own",
        "ollama run mistral-7b-v0.3-own",
    ]


def test_a_config_alone_makes_no_model():
    derived = weighbridge.infer(catalogue.find("qwen3-0.6b").config, engine="ollama").derived
    assert "launch" not in derived
    assert derived["launch_note"].startswith("no line to paste: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("release", "shown", "gb"),
    [("0.24.0", "45 GB, 100% GPU", 44.8), ("0.30.8", "22 GB, 100% GPU", 22.5)],
)
def test_of_two_caches_of_a_device_ps_counts_the_second(release, shown, gb):
    """ollama#16763: Gemma 4 31B at 262,144 tokens on an RTX 5090 and an RTX 3090. The names by which
    0.30 keeps buffers are those of a device: its cache of windows takes the place of the other."""
    w = {"gpu": "rtx-5090 + rtx-3090", "context": 262_144, "quantization": "Q4_K_M"}
    found = asked("gemma-4-31b", engine_version=release, **w)
    assert found.derived["ollama_ps"] == shown
    assert found.derived["ollama_ps_bytes"] / 1e9 == pytest.approx(gb, rel=0.025)


@pytest.mark.parametrize(
    ("model", "release", "kept"),
    [
        ("qwen3.6-27b", "0.18.0", 24),
        ("qwen3.6-27b", "0.30.0", 0),
        ("qwen3-next-80b-a3b", "0.15.5", 32),
        ("qwen3-next-80b-a3b", "0.15.4", 0),
        ("gemma-3-4b", "0.24.0", 0),
    ],
)
def test_its_own_runner_keeps_states_to_go_back_to(model, release, kept):
    """Qwen3.6 27B at 32,768 tokens is 24 GB in `ollama ps` of 0.21 (ollama#15634): 24 states more
    of 157 MB are 3.8 of them."""
    w = {"context": 32_768, "quantization": "Q4_K_M", "gpu": "rtx-pro-6000"}
    found = asked(model, engine_version=release, **w)
    states = part(found.devices[0].phases[1], "recurrent_state")
    one = part(asked(model, engine_version="0.33", **w).devices[0].phases[1], "recurrent_state")
    assert states == one * (1 + kept)
    if release == "0.18.0":
        shown = asked(model, engine_version="0.21.0", **w).derived["ollama_ps_bytes"]
        assert shown / 1e9 == pytest.approx(24, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "layers"), [("qwen3.8-27b", 18), ("gemma-3-27b", 16)])
def test_layers_that_it_keeps_leave_room_for_a_tower(model, layers):
    """A tower's weights and 1 GiB are the target that llama-server's --fit leaves
    (mmprojFitTargetMiB of llm/llama_server.go): 0.93 GB of Qwen3.8, a hybrid, on a card of 8 GB."""
    found = asked(model, gpu="4060")
    most = found.divisions[0]["n_gpu_layers"]
    assert most == layers
    kept = asked(model, gpu="4060", n_gpu_layers=most)
    room = 7.4 * GIB
    peak = kept.devices[0].peak("driver")
    assert room - 2.2 * GIB < peak.expected < peak.high < room + 0.1 * GIB


@pytest.mark.parametrize(
    ("model", "form", "line"),
    [  # 50 GB are one file: 42.5 GB of Q4_K_M, 57.9 GB of Q6_K
        ("llama-3.3-70b", "Q4_K_M", "ollama run llama3.3:70b"),
        ("llama-3.3-70b", "Q3_K_M", "ollama run hf.co/unsloth/Llama-3.3-70B-Instruct-GGUF:Q3_K_M"),
        (
            "llama-3.3-70b",
            "Q6_K",
            "llama-server -hf unsloth/Llama-3.3-70B-Instruct-GGUF:Q6_K -c 8192 -np 2",
        ),
        ("unsloth/Qwen3-8B-GGUF:Q6_K", None, "ollama run hf.co/unsloth/Qwen3-8B-GGUF:Q6_K"),
        ("ggml-org/gpt-oss-20b-GGUF", None, "ollama run hf.co/ggml-org/gpt-oss-20b-GGUF"),
        (
            "ggml-org/gpt-oss-120b-GGUF",
            None,
            "llama-server -hf ggml-org/gpt-oss-120b-GGUF -c 8192 -np 2",
        ),
    ],
)
def test_a_file_that_the_hub_has_in_parts_is_not_for_ollama(model, form, line):
    report = weighbridge.prepare(model, offline=True).infer(
        engine="ollama", context=4096, parallel=2, quantization=form
    )
    assert report.derived["launch"].rpartition("; ")[2] == line
    assert report.derived.get("launch_note") == (
        sentence("in_parts") if line.startswith("llama") else None
    )


def test_what_ollama_was_told_is_told_to_the_server():
    report = weighbridge.infer(
        "llama-3.3-70b",
        engine="ollama",
        quantization="Q6_K",
        context=4096,
        n_gpu_layers=20,
        kv_cache_dtype="Q8_0",
    )
    assert report.derived["launch"].endswith("-c 4096 -np 1 -ngl 20 -ctk q8_0 -ctv q8_0")
