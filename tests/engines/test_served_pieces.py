"""Small rules of the servers' engines, by hand."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.cases import all_of
from tests.engines.answers import answer
from weighbridge.base.dtypes import BFLOAT16, GGML_BY_NAME
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.memory import Bytes, exactly, total_apart
from weighbridge.base.units import MIB
from weighbridge.engines.llama_cpp import components, compute, networks
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F16, F32
from weighbridge.engines.llama_cpp.rules import products
from weighbridge.engines.ollama import layer_formula
from weighbridge.engines.parallel import cuts, pieces
from weighbridge.engines.parallel.cuts import SIZES, Site
from weighbridge.engines.sglang import caches as sglang_caches
from weighbridge.engines.sglang import effective, replica
from weighbridge.engines.sglang import infer as sglang_infer
from weighbridge.engines.sglang.cases import remade
from weighbridge.engines.transformers import infer
from weighbridge.engines.vllm import caches as vllm_caches
from weighbridge.engines.vllm import reserve, serving
from weighbridge.engines.vllm.caches import VllmCacheSetting
from weighbridge.memory.components.activations import LivePeak
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.arch.blueprint import Blueprint, CountedParams, Param
from weighbridge.models.arch.mixers import Compressed, Indexer, Mamba2
from weighbridge.models.arch.parts import Dense
from weighbridge.models.quantization import schemes


def test_numbers_of_devices_that_are_proposed():
    """Up to four, and five to eight with their doubles up to 64."""
    assert list(SIZES) == sorted({1, 2, 3, 4} | {n << k for n in (5, 6, 7, 8) for k in range(4)})


# llama.cpp


@all_of("size", [40, 64, 72, 80, 96, 112, 128, 256, 512])
def test_heads_that_cuda_has_flash_attention_for(size):
    """ggml-cuda/fattn.cu: these sizes, and three pairs of unequal ones."""
    flash = compute.KERNELS["flash_attn"]

    def of(key, value):
        return g.flash(*(g.entry(F16, n, 8, 8) for n in (key, key, value)))

    assert flash(of(size, size))
    assert not flash(of(size + 1, size + 1))
    assert not flash(of(size, size + 8))
    assert all(flash(of(*pair)) for pair in ((576, 512), (192, 128), (320, 256)))


@all_of(
    ("state", "head", "heads", "runs"),
    [
        # Mamba 1: 16 numbers a channel, in blocks of 128 channels (ssm-scan.cu)
        (16, 1, 256, True),
        (16, 1, 200, False),
        (32, 1, 256, False),
        # Mamba 2: heads in sixteens
        *((n, 16, 64, True) for n in (96, 128, 256)),
        (64, 16, 64, False),
        (128, 20, 64, False),
    ],
)
def test_scans_that_cuda_has(state, head, heads, runs):
    node = g.made("ssm_scan", (1,), g.entry(F32, state, head, heads))
    assert compute.KERNELS["ssm_scan"](node) is runs


@pytest.mark.parametrize(("channels", "runs"), [(128, True), (200, False), (256, True)])
def test_convolutions_that_cuda_has(channels, runs):
    node = g.made("ssm_conv", (channels, 1), g.entry(F32, 4, channels))
    assert compute.KERNELS["ssm_conv"](node) is runs


@pytest.mark.parametrize(("said", "limit"), [(1, MIB), (8192, 8192 * MIB), (-1, 32 * 66)])
def test_prompts_that_a_server_keeps(said, limit):
    """MiB as said; without a limit a slot has 32 checkpoints of what all devices hold."""
    at = SimpleNamespace(program="server", cache_ram=said, gpus=2)
    h = SimpleNamespace(launch=at, kv=lambda d: 10 * (d + 1), state=lambda d: 2)
    (kept,) = components._kept(h)
    assert kept.bytes == Bytes(0, 0, limit)
    at.program = "cli"
    assert list(components._kept(h)) == []


@all_of(
    ("dtype", "rows", "repacks", "device", "build", "runs"),
    [
        ("Q4_K", 8, False, 1, 3682, True),
        ("Q4_K", 8, True, 1, 3682, False),  # packed in fours, for the processor alone
        ("Q4_K", 6, True, 1, 3682, True),  # rows that are no multiple of four stay
        ("Q4_K", 8, True, 0, 3682, True),  # what a card holds is never packed
        ("Q8_0", 8, True, 1, 3682, False),  # in eights
        ("Q8_0", 12, True, 1, 3682, True),
        ("IQ4_K", 8, True, 1, 3713, False),
        ("IQ4_K", 8, True, 1, 3714, True),  # multiplied by cards since then (#461)
    ],
)
def test_which_packed_rows_a_card_multiplies(dtype, rows, repacks, device, build, runs):
    """ik_llama.cpp -rtr; the host is the second device, and experts are three."""
    w = g.weight(GGML_BY_NAME[dtype], (256, rows, 3), device)
    step = SimpleNamespace(
        repacks=repacks, rules=SimpleNamespace(packed_products=products(build), no_kernel=())
    )
    product = g.made("mul_mat", (rows,), w)
    assert compute.supports(1, step)(product, 0) is runs


def test_a_tower_keeps_six_of_its_width_and_three_of_its_feed_forward():
    tower = {"positions": 10, "hidden": 7}
    plain = SimpleNamespace(feed=Dense(width=5, gated=False), **tower)
    routed = SimpleNamespace(feed=SimpleNamespace(width=5, top_k=2), **tower)
    loaded = SimpleNamespace(parts=[SimpleNamespace(stored=[SimpleNamespace(nbytes=128)])])

    def computed(*towers):
        body = SimpleNamespace(towers=towers)
        return components.projector(
            SimpleNamespace(projector=loaded, body=body), None
        ).compute.bytes

    assert computed(plain).expected == 4 * 10 * (6 * 7 + 3 * 5)
    expected = 4 * 10 * (6 * 7 + 3 * 10)
    assert computed(plain, routed) == Bytes(expected // 2, expected, 3 * expected)
    assert computed().expected == 64 * MIB


def test_files_of_a_projector_are_in_blocks_of_128_bytes():
    stored = [SimpleNamespace(nbytes=n) for n in (1, 128, 129)]
    s = SimpleNamespace(projector=SimpleNamespace(parts=[SimpleNamespace(stored=stored)]))
    assert components.of_file(s) == 128 + 128 + 256


def test_tensors_of_a_class_that_are_not_the_language_models_are_of_a_projector():
    """In 16 bits, in blocks of 128 bytes: 2 x 60 bytes are one, 2 x 65 are two. A table of places
    (512 bytes) may be in 32 bits, and is expected to; one of patches (384 bytes) may."""
    of_tower = ("a", "b", "embeddings.position_embedding", "patch_embed.proj")
    names = (*(f"vision.{n}.weight" for n in of_tower), "model.c.weight")
    shapes = ((6, 10), (5, 13), (16, 16), (12, 16), (7, 7))
    params = tuple(Param(n, s) for n, s in zip(names, shapes, strict=True))
    plan = Blueprint(cls="AnyModel", params=params, parts=(("vision", "tower"),))
    s = SimpleNamespace(part=SimpleNamespace(blueprint=plan), choice=FormatChoice(dtype=BFLOAT16))
    low = 128 + 256 + 512 + 384
    assert components.of_class(s) == Bytes(low, low + 512, low + 512 + 384)


def test_towers_alone_are_packed_to_count_their_file(monkeypatch):
    """None of the language model is packed: its names take as long as a tower's tensors."""
    packed = []
    of_f16 = schemes.scheme("F16")

    def loader(setting):
        pack = of_f16.loader(setting)
        return lambda p: packed.append(p.name) or pack(p)

    monkeypatch.setattr(components, "scheme", lambda name: replace(of_f16, loader=loader))
    tower = Param("vision.a.weight", (6, 10))
    expert = Param("model.layers.0.mlp.experts.0.w1.weight", (8, 8), "expert", copies=384)
    plan = Blueprint(
        cls="AnyModel", params=CountedParams((tower, expert)), parts=(("vision", "tower"),)
    )
    s = SimpleNamespace(part=SimpleNamespace(blueprint=plan), choice=FormatChoice(dtype=BFLOAT16))
    assert components.of_class(s) == exactly(128)
    assert packed == [tower.name]


@pytest.mark.parametrize(
    ("used", "held", "wrong"), [(4, 4, False), (1, 4, False), (5, 4, True), (0, 4, True)]
)
def test_a_token_uses_no_more_experts_than_there_are(used, held, wrong):
    up = SimpleNamespace(name="blk.0.ffn_up_exps.weight", ne=(8, 8, held))
    net = SimpleNamespace(weights={up.name: up}, arch="x")
    with pytest.raises(BadFileError) if wrong else nullcontext():
        networks._enough(net, used)


def test_tensors_of_one_name_are_all_kept():
    same = [networks.Weight("a", F16, (1,), n) for n in (1, 2, 3)]
    found = networks.by_name(same)
    assert {name: w.nbytes for name, w in found.items()} == {"a": 1, "a.more": 2, "a.more.more": 3}
    assert [w.name for w in found.values()] == list(found)


# Devices that share a model out (tensor parallel)


def test_mamba_2_is_cut_by_heads_and_groups():
    """In: z, x and dt by heads, B and C (2 x 2 groups x 16) by groups; out: a number a head."""
    m = Mamba2(inner=64, heads=8, groups=2, state=16, kernel=4)

    def parts(rows):
        site = Site(param=Param("a.in_proj.weight", (rows, 32), role="states"), mixers=(m,))
        return [(p.size, p.unit.number, p.unit.how) for p in cuts.cut(site).parts]

    assert parts(64 + 64 + 64 + 8) == [(136, 8, "split"), (64, 2, "repeat")]
    assert parts(65) == [(1, 8, "split"), (64, 2, "repeat")]
    assert parts(64) == [(64, 8, "split")]
    assert parts(8) == [(8, 8, "split")]


# SGLang


@pytest.mark.parametrize(
    ("full", "sliding", "page", "nbytes"),
    [
        (640, 0, 64, 8 * 10),
        (640, 128, 64, 8 * (12 + 704)),  # the map from all tokens, and a page of padding
        (0, 128, 64, 8 * 2),
    ],
)
def test_lists_of_free_pages(full, sliding, page, nbytes):
    pools = sglang_caches.Pools(full=full, sliding=sliding, slots=0)
    assert beside_caches(pools, page, context=-4) == nbytes


def beside_caches(pools, page, *, context, drafted=0, requests=0):
    """Bytes of tables and lists of pools whose tokens take none."""
    return replica.least_pools(
        SimpleNamespace(
            settings=SimpleNamespace(page=page, context=context, drafted=drafted),
            case=SimpleNamespace(
                beside=0, kinds=[SimpleNamespace(cells=sglang_caches.Cells(0, 0, 0))]
            ),
            needed=[pools],
            load=SimpleNamespace(requests=requests),
        ),
        0,
    )


def test_a_row_of_requests_has_four_positions_more():
    none = sglang_caches.Pools(full=0, sliding=0, slots=0)
    assert beside_caches(none, 1, context=1000, drafted=3, requests=9) == 10 * 1007 * 4


# vLLM


@pytest.mark.parametrize(
    ("context", "rate", "indexed", "nbytes"),
    [
        # a row: 448 in fp8, 64 in bfloat16, 7 scales in 8 bytes; a key: 128 and a scale
        (100, 4, True, 100 * 584 + 25 * (584 + 132)),
        (1000, 4, True, 128 * 584 + 250 * (584 + 132)),
        (1000, 128, False, 128 * 584 + 7 * 584),
        (1000, 1, False, 128 * 584),
    ],
)
def test_what_deepseek_v4_keeps_of_a_request(context, rate, indexed, nbytes):
    index = Indexer(heads=64, dim=128) if indexed else None
    m = Compressed(heads=64, dim=512, rotary=64, window=128, rate=rate, indexer=index)
    found = vllm_caches.contents({m: 3}, VllmCacheSetting(context=context, dtype=BFLOAT16))
    assert found.kv == 3 * nbytes


@pytest.mark.parametrize(("blocks", "hopeless"), [(40, False), (41, True)])
def test_weights_and_blocks_that_are_more_than_a_card(monkeypatch, blocks, hopeless):
    monkeypatch.setattr(serving, "loads", lambda *a: True)
    held = SimpleNamespace(resident=SimpleNamespace(loaded=SimpleNamespace(allocated=60)))
    budget = SimpleNamespace(usable=Bytes(90, 100, 110))
    rank = SimpleNamespace(
        standing=held, blocks=SimpleNamespace(nbytes=blocks), own=lambda asked: budget
    )
    assert serving.hopeless(SimpleNamespace(kinds=[rank], on_cards=budget)) is hopeless


# transformers


@all_of(
    ("name", "new", "guessed", "sides"),
    [
        ("kv_cache", True, False, (0, 0)),
        ("activations", True, False, (5 * MIB, 5 * MIB + 8 * MIB)),  # a twentieth
        ("activations", True, True, (100 * MIB // 3, 100 * MIB // 3 + 8 * MIB)),
        ("logits", False, False, (0, 0)),
        ("logits", True, False, (0, 6 * 4 * 3 * 7)),  # six copies in float32
    ],
)
def test_how_sure_a_moment_is(name, new, guessed, sides):
    low, high = sides
    expected = 100 * MIB
    found = prefilled({name: expected}, batch=3, new=new, guessed=guessed, outputs=7)
    assert found[name].bytes == Bytes(expected - low, expected, expected + high)


def prefilled(live, *, batch=1, packages=(), **more):
    """The components of a prompt's step in which such bytes are alive, by name."""
    prompt = SimpleNamespace(batch=batch, tokens=2, cache="static", dtype=BFLOAT16)
    usual = {"guessed": False, "new": True, "context": 3, "outputs": 1, "logits_kept": 0}
    plan = SimpleNamespace(**usual | more, prompt=prompt, packages=packages)
    holding = SimpleNamespace(fixed=(), working=(), loading=(), rounding=0, free=0)
    total = sum(live.values())
    peak = LivePeak(live=live, allocated=total, reserved=total)
    _, moment = infer.phases(plan, holding, [peak])
    return {c.name: c for c in moment.components}


@pytest.mark.parametrize(("packages", "least"), [(("kernels",), 95), (("flash-linear",), 0)])
def test_steps_that_a_package_fuses_may_take_nothing(packages, least):
    """What keeps weights packed is no step of a forward."""
    found = prefilled({"activations": 100 * MIB}, packages=packages)
    assert found["activations"].bytes.low == least * MIB


def test_components_of_a_moment_are_labelled():
    for guessed in (False, True):
        found = prefilled({"activations": 1, "logits": 1}, guessed=guessed)
        kinds = {name: found[name].basis for name in ("activations", "logits")}
        assert kinds == {
            "activations": "assumed" if guessed else "computed",
            "logits": "computed",
        }


@pytest.mark.parametrize(("said", "reckoned"), [(4096, 4096), (16_384, 16_384), (-1, 16_384)])
def test_the_chunk_by_which_sglang_reckons_its_share(monkeypatch, said, reckoned):
    """server_args.py: as of 16,384 tokens where prompts are not cut."""
    found = []
    fraction = effective.card_defaults.fraction
    monkeypatch.setattr(
        effective.card_defaults, "fraction", lambda a: (found.append(a), fraction(a))[1]
    )
    answer("qwen3-0.6b", engine="sglang", gpu="h100", context=3000, chunked_prefill_size=said)
    assert {a.chunk for a in found} == {reckoned}


@pytest.mark.parametrize(
    ("rate", "indexed", "pages"),
    [
        # 64 rows of 584 bytes, in multiples of 576: 65; of 256 tokens 64 rows or 2. What waits:
        # four tokens, or eight, with keys and gates in float32, twice as wide behind an indexer
        (1, False, [65 * 576]),
        (4, True, [65 * 576, 65 * 576, 15 * 576, 57 * 576, 15 * 576]),
        (128, False, [65 * 576, 3 * 576, 57 * 576]),
    ],
)
def test_pages_of_deepseek_v4(rate, indexed, pages):
    index = Indexer(heads=64, dim=128) if indexed else None
    m = Compressed(heads=64, dim=512, rotary=64, window=128, rate=rate, indexer=index)
    s = VllmCacheSetting(context=4096, dtype=BFLOAT16)
    layer = SimpleNamespace(mixers=(m,))
    found = vllm_caches.specs([layer], s)
    assert [spec.page for spec in found] == pages
    assert [spec.reach for spec in found if spec.kind == "sliding"][1:] == (
        [8, 8] if indexed else [128] * (rate > 1)
    )


@pytest.mark.parametrize(("free", "wanted"), [(0, []), (1, [0.01]), (50, [0.5]), (90, [])])
def test_a_share_below_the_default_is_above_none(monkeypatch, free, wanted):
    """The card has 100 bytes, and 0.9 is the default."""
    monkeypatch.setattr(serving.hardware, "total", lambda budget: 100)
    monkeypatch.setattr(serving, "at_start", lambda r, budget, worst: free)
    monkeypatch.setattr(serving, "replace", lambda made, share: share)
    budget = SimpleNamespace(usable=Bytes(100, 100, 100), pool=None)
    outside = SimpleNamespace(high=0)
    rank = SimpleNamespace(outside=outside, given=None, own=lambda asked: budget)
    asked = SimpleNamespace(gpu_memory_utilization=None)
    made = SimpleNamespace(kinds=[rank], asked=asked, utilization=0.9, on_cards=budget)
    assert sorted(set(serving._narrowed(made))) == wanted


@all_of(
    ("text", "rope", "rows"),
    [
        ({}, {}, 8192),
        ({"max_position_embeddings": 100}, {"mrope_section": [1]}, 400),
        ({"max_position_embeddings": 100}, {"rope_type": "linear", "factor": 3}, 300),
        (
            {"max_position_embeddings": 400},
            {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 50},
            200,
        ),
        (
            {"max_position_embeddings": 100, "original_max_position_embeddings": 30},
            {"type": "longrope"},
            130,
        ),
        ({"max_position_embeddings": 1 << 28}, {}, 1 << 28),
        ({"max_position_embeddings": (1 << 28) + 1}, {}, None),
    ],
)
def test_positions_of_a_rotary_table(text, rope, rows):
    """vllm rotary_embedding/; of more than 2^28 positions no table is made."""
    if rows is None:
        with pytest.raises(BadFileError, match="268,435,456"):
            pieces.rows(text, rope)
    else:
        assert pieces.rows(text, rope) == rows


# Ollama's estimate of graphs (fs/ggml/ggml.go, GraphSize): of some layers, of all


@all_of(
    ("arch", "vocab", "more", "sizes"),
    [
        # 8 wide, 4 heads of which 2 have keys, 2 tokens of 32: scores decide, or the vocabulary
        ("llama", 16, {}, (64 + 328 + 36 + 1536, 1544)),
        ("llama", 1000, {}, (64 + 8064 + 6562, 8064)),
        ("llama", 16, {"context": 4}, (64 + 136 + 36 + 192, 424)),  # fewer than it is wide
        ("llama", 16, {"experts": 100}, (4 * (256 + 128 + 2048 + 8), 1544)),
        ("llama", 16, {"experts": 10_000}, (30_000 + 528, 1544)),
        ("gemma2", 16, {}, (1608 + 3072 + 54, 1616)),
        ("gemma2", 1000, {}, (64 + 6562 + 8000, 8064)),
        ("gemma3n", 1000, {}, (4 * (64 + 6562 + 8000), 4 * 8064)),
        ("command-r", 16, {}, (1416 + 1024 + 36, 1552)),
        ("command-r", 1000, {}, (8064 + 6562, 8064)),
        ("qwen2", 16, {}, (4 * (354 + 264), 1416)),
        ("qwen2", 1000, {}, (8064 + 6562, 8064)),
        ("phi2", 16, {}, (1488, 1544)),
        ("phi2", 1000, {}, (8128 + 6562, 8064)),
        ("stablelm", 16, {}, (1488, 1488)),
        ("stablelm", 1000, {}, (8128, 1488)),
    ],
)
def test_graphs_of_ollama_of_a_small_model(arch, vocab, more, sizes):
    experts = SimpleNamespace(ne=(8, 10), nbytes=more.pop("experts", 0))
    net = SimpleNamespace(hidden=8, vocab=vocab, arch=arch, get=None)
    net.get = lambda *a: experts if experts.nbytes else None
    facts = {"batch": 2, "context": 32, "heads": 4, "kv_heads": 2, "key_dim": 3, **more}
    assert layer_formula.GRAPHS[arch](SimpleNamespace(net=net, **facts)) == sizes


@pytest.mark.parametrize(
    ("rows_of", "backend", "blackwell", "late", "sizes"),
    [
        # of latents 3 numbers for each of 20 rows, in 16 bits
        (3, "", False, False, (120, 0, 0)),
        (0, "", False, True, (0, 0, 0)),  # no latents, no buffer of theirs
        (0, "", True, False, (0, 1, 0)),  # FlashInfer's scratch, on Blackwell unasked
        (0, "FLASHINFER", False, False, (0, 1, 0)),
        (0, "FLASH_ATTN", True, False, (0, 0, 0)),
        (3, "", True, True, (120, 1, 1)),
        (3, "", False, True, (120, 0, 0)),
    ],
)
def test_what_attention_of_vllm_keeps(monkeypatch, rows_of, backend, blackwell, late, sizes):
    monkeypatch.setattr(reserve.forward, "expanded_rows", lambda context, sequences: 20)
    at = SimpleNamespace(rules=SimpleNamespace(latent_late=late), backend=backend, sequences=1)
    subject = SimpleNamespace(choice=SimpleNamespace(dtype=BFLOAT16))
    own = SimpleNamespace(
        launch=at, widths=SimpleNamespace(latent=rows_of), blackwell=blackwell, subject=subject
    )
    rows, scratch, buffers = sizes
    found = reserve.RankReserve.late.func(SimpleNamespace(standing=own, context=7))
    assert found == rows + scratch * reserve.FLASHINFER + buffers * reserve.weights.LATENT_BUFFER


@pytest.mark.parametrize(
    ("library", "kinds", "refused"),
    [
        ("transformers", ("deberta",), True),
        ("gguf", ("deberta",), False),  # a file names its architecture
        ("transformers", ("llama",), False),
    ],
)
def test_what_cannot_be_converted_is_refused(monkeypatch, library, kinds, refused):
    monkeypatch.setattr(
        networks.gguf_layers, "architecture", lambda kind: "none" if kind == "deberta" else kind
    )
    part = SimpleNamespace(library=library, blueprint=SimpleNamespace(cls="AnyModel"))
    s = SimpleNamespace(
        part=part, model_type=kinds[0], config=None, layers=(), model=SimpleNamespace(reference="m")
    )
    with pytest.raises(UnsupportedError, match="no architecture") if refused else nullcontext():
        networks.refuse(s)


@all_of(
    ("available", "kept", "says"),
    [
        (0, 1, "0.900 leaves nothing for the KV cache; it would have to be above 0.900"),
        (-5, 1, "above 0.950"),
        (-10, 1, "no fraction would"),
        (-4, 0.5, "0.900, of which aiter leaves 0.5, leaves nothing for the KV cache; it would "),
        (-4, 0.5, "above 0.980"),
    ],
)
def test_what_a_fraction_of_sglang_lacks(available, kept, says):
    """The card has 100 bytes free, of which 90 were asked for."""
    settings = SimpleNamespace(share=0.9, share_used=kept, backend="aiter")
    fit = SimpleNamespace(rooms=[SimpleNamespace(available=available, free=100)])
    launched = SimpleNamespace(serves=lambda: False, served=None, settings=settings, fit=fit)
    assert says in sglang_infer.lacks(launched)


@all_of(
    ("name", "scale", "card", "layers", "told"),
    [
        ("experts mxfp4", 4, 9, 1, Bytes(0, 1 * MIB, 21 * MIB)),
        ("experts mxfp4", 4, 9, 4, Bytes(0, 1 * MIB, 6 * MIB)),
        ("experts mxfp4", 4, 10, 4, Bytes(0, 1 * MIB, 6 * MIB)),
        # made in bytes at once, since 0.5.16, of which no log of Hopper tells
        ("experts mxfp4", 1, 9, 4, Bytes(0, 0, 4 * (20 * MIB // 17) + 5 * MIB)),
        ("experts mxfp4", 1, 12, 4, None),
        ("fp8", 4, 9, 4, None),
    ],
)
def test_scales_of_experts_that_are_made_anew(name, scale, card, layers, told):
    """32 weights are 16 bytes and a scale in float32, for which a byte is kept besides. The layer
    that is made anew is there once more at most."""
    scheme = SimpleNamespace(name=name)
    of = SimpleNamespace(
        subject=SimpleNamespace(choice=SimpleNamespace(scheme=scheme)),
        rules=SimpleNamespace(mixed_scale=scale),
        sizes={"capability": card},
    )
    tensors = [
        SimpleNamespace(nbytes=5 * MIB, copies=4, module="model.layers.0.mlp.experts"),
        SimpleNamespace(nbytes=5 * MIB, copies=4, module="model.layers.0.mlp.gate"),
    ]
    rank = SimpleNamespace(tensors=tensors, blocks=range(layers), layers=())
    found = remade(of, rank)
    assert [c.bytes for c in found] == ([told] if told else [])


def test_ranges_that_are_independent_are_not_at_their_ends_at_once():
    three = Bytes(7, 10, 13), Bytes(16, 20, 24), Bytes(5, 5, 5)
    assert total_apart(three) == Bytes(30, 35, 40)  # hypot(3, 4, 0) = 5
    assert total_apart([Bytes(0, 1, 3), Bytes(0, 1, 3)]) == Bytes(0, 2, 5)  # outward: 2 + 2.83
    assert total_apart([]) == Bytes(0, 0, 0)


@all_of(
    ("launched", "share", "profiled", "less"),
    [
        ({}, 0.92, 242, 242 + 100),
        ({}, 0.92, 2000, 704 - 48 + 100),  # no more than torch's segments
        ({}, 0.921, 242, 0),  # more than its own share
        ({"tensor": 2}, 0.92, 242, 0),
        ({"pipeline": 2}, 0.92, 242, 0),
        ({"second_runner": False}, 0.92, 242, 0),
    ],
)
def test_what_is_held_outside_the_share_at_most(launched, share, profiled, less):
    plain = {"tensor": 1, "pipeline": 1, "second_runner": True}
    launch = SimpleNamespace(**{**plain, **launched}, rules=SimpleNamespace(utilization=0.92))
    rank = SimpleNamespace(
        standing=SimpleNamespace(launch=launch, sums=SimpleNamespace(never_at_once=100 * MIB)),
        outside=Bytes(0, 0, 5000 * MIB),
        profiled=SimpleNamespace(total=exactly(profiled * MIB)),
    )
    assert reserve.RankReserve.beside_share(rank, share) == (5000 - less) * MIB
