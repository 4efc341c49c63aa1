"""The law of formats: what each engine reads, by release and card, held against a table that was
read in the engines' sources apart from theirs; and what is not read is refused."""

import re
from functools import cache

import pytest

import weighbridge
from tests.cases import all_of, each
from tests.engines.answers import answer, of_config
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.wording import one_line
from weighbridge.engines import weight_formats
from weighbridge.engines.format_choice import not_of_gguf
from weighbridge.engines.table import ENGINES
from weighbridge.engines.weight_formats import (
    Loader,
    WeightFormat,
    by_default,
    elsewhere,
    lacking,
    offered,
    reads,
)
from weighbridge.machines.accelerators.names import find
from weighbridge.models import catalogue
from weighbridge.models.quantization.schemes import GGUF, NAMES, scheme

# A device of each compute capability that the sources tell apart
CARDS = {
    "6.0": "p100-pcie-16gb",
    "7.0": "v100-sxm2-32gb",
    "7.5": "t4",
    "8.0": "a100-sxm4-80gb",
    "8.9": "l20",
    "9.0": "h100-sxm-80gb",
    "10.0": "b200-sxm-180gb",
}
# The least compute capability with which a format can be asked for; "-": not at all, "*": of any.
# vLLM 0.33, 0.27, 0.23, 0.13, 0.9; SGLang 0.5.23, 0.5.14, 0.5.10, 0.4; transformers 5.23, 4.44;
# mlx-lm 0.32, 0.26; llama.cpp b11200, b4905; ik_llama.cpp 4840; Ollama 0.33
COLUMNS = """
vllm 0.33, vllm 0.27, vllm 0.23, vllm 0.13, vllm 0.9, sglang 0.5.23, sglang 0.5.14, sglang 0.5.10, sglang 0.4,
transformers 5.23, transformers 4.44, mlx 0.32, mlx 0.26, llama.cpp 11200, llama.cpp 4905,
ik_llama.cpp 4840, ollama 0.33
"""
ASKED = """
bnb-int8          -    7.0  7.0  7.0  7.0  7.0  7.0  7.0  7.0  *    *    -    -    -    -    -    -
nf4               -    7.0  7.0  7.0  7.0  7.0  7.0  7.0  7.0  *    *    -    -    -    -    -    -
nf4-dq            -    7.0  7.0  7.0  7.0  7.0  7.0  7.0  7.0  *    *    -    -    -    -    -    -
fp4               -    7.0  7.0  7.0  7.0  7.0  7.0  7.0  7.0  *    *    -    -    -    -    -    -
fp4-dq            -    7.0  7.0  7.0  7.0  7.0  7.0  7.0  7.0  *    *    -    -    -    -    -    -
gptq-4bit-g128    7.5  7.5  7.5  6.0  6.0  8.0  6.0  6.0  6.0  *    *    -    -    -    -    -    -
gptq-8bit-g128    7.5  7.5  7.5  6.0  6.0  8.0  6.0  6.0  6.0  *    *    -    -    -    -    -    -
gptq-3bit-g128    -    -    -    6.0  6.0  -    6.0  6.0  6.0  *    *    -    -    -    -    -    -
gptq-2bit-g64     -    -    -    6.0  6.0  -    6.0  6.0  6.0  *    *    -    -    -    -    -    -
awq-4bit-g128     7.5  7.5  7.5  7.5  7.5  7.5  7.5  7.5  7.5  *    *    -    -    -    -    -    -
fp8-tensor        7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  8.0  *    -    -    -    -    -    -    -
fp8-block         7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  8.0  *    -    -    -    -    -    -    -
fp8-static        7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  8.0  *    -    -    -    -    -    -    -
fp8-dynamic       7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  8.0  *    *    -    -    -    -    -    -
w8a8-fp8          7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  8.0  *    -    -    -    -    -    -    -
mxfp4             8.0  8.0  8.0  8.0  -    8.0  8.0  8.0  -    *    -    -    -    -    -    -    -
nvfp4             7.5  7.5  7.5  8.0  8.0  8.0  8.0  10.0 -    *    -    -    -    -    -    -    -
mxfp8             7.5  7.5  7.5  -    -    10.0 10.0 10.0 -    *    -    -    -    -    -    -    -
w4a16-g128        7.5  7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  *    -    -    -    -    -    -    -
w8a16             7.5  7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  *    -    -    -    -    -    -    -
w3a16-g128        7.5  7.5  -    -    -    -    -    -    -    *    -    -    -    -    -    -    -
w8a8-int8         7.5  7.5  7.5  7.5  7.5  7.5  7.5  7.5  7.5  *    -    -    -    -    -    -    -
torchao-int8      7.5  7.5  7.5  7.5  7.5  -    7.5  7.5  7.5  *    -    -    -    -    -    -    -
torchao-int4-g128 7.5  7.5  7.5  7.5  7.5  -    7.5  7.5  7.5  *    -    -    -    -    -    -    -
torchao-fp8       7.5  7.5  7.5  7.5  7.5  -    7.5  7.5  7.5  *    -    -    -    -    -    -    -
hqq-4bit-g64      -    -    -    8.0  8.0  -    -    -    -    *    *    -    -    -    -    -    -
hqq-2bit-g64      -    -    -    -    -    -    -    -    -    *    *    -    -    -    -    -    -
quanto-int8       -    -    -    -    -    -    -    -    -    *    *    -    -    -    -    -    -
quanto-float8     -    -    -    -    -    -    -    -    -    *    *    -    -    -    -    -    -
quanto-int4       -    -    -    -    -    -    -    -    -    *    *    -    -    -    -    -    -
quanto-int2       -    -    -    -    -    -    -    -    -    *    *    -    -    -    -    -    -
eetq              -    -    -    -    -    -    -    -    -    *    *    -    -    -    -    -    -
mlx-4bit-g64      -    -    -    -    -    -    -    -    -    -    -    *    *    -    -    -    -
mlx-mxfp4         -    -    -    -    -    -    -    -    -    -    -    *    -    -    -    -    -
mlx-mxfp8         -    -    -    -    -    -    -    -    -    -    -    *    -    -    -    -    -
mlx-nvfp4         -    -    -    -    -    -    -    -    -    -    -    *    -    -    -    -    -
Q4_K_M            -    -    -    -    -    -    -    -    -    -    -    -    -    *    *    *    *
IQ4_XS            -    -    -    -    -    -    -    -    -    -    -    -    -    *    *    *    *
TQ1_0             -    -    -    -    -    -    -    -    -    -    -    -    -    *    *    -    *
Q2_0              -    -    -    -    -    -    -    -    -    -    -    -    -    *    -    -    *
MXFP4_MOE         -    -    -    -    -    -    -    -    -    -    -    -    -    *    -    *    *
"""
# Checkpoints: what they are stored in and under which quant_method
STORED = """
GGUF/                          -    -    6.0  6.0  6.0  6.0  6.0  6.0  6.0  *    *    -    -    *    *    *    *
mlx-4bit-g64/                  -    -    -    -    -    -    -    -    -    -    -    *    *    -    -    -    -
fp8-dynamic/fbgemm_fp8         7.5  7.5  7.5  8.0  8.0  -    8.0  8.0  8.0  *    *    -    -    -    -    -    -
fp8-block/fp8                  7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  8.0  *    -    *    *    *    *    *    *
fp8-static/modelopt            8.0  8.0  8.9  8.9  8.9  8.9  8.9  8.9  8.9  -    -    -    -    *    *    *    *
fp8-dynamic/compressed-tensors 7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  8.0  *    -    -    -    *    *    *    *
nvfp4/modelopt                 7.5  7.5  7.5  8.0  8.0  8.0  8.0  10.0 -    -    -    *    -    *    *    *    *
nvfp4/compressed-tensors       7.5  7.5  7.5  8.0  8.0  8.0  8.0  10.0 -    *    -    *    -    -    -    -    -
mxfp4/mxfp4                    8.0  8.0  8.0  8.0  -    8.0  8.0  8.0  -    *    -    *    -    *    *    *    *
mxfp4/fp8                      9.0  9.0  9.0  -    -    9.0  9.0  -    -    *    -    -    -    *    *    *    *
mxfp8/mxfp8                    7.5  7.5  7.5  -    -    10.0 10.0 10.0 -    -    -    *    -    -    -    -    -
w4a16-g32/compressed-tensors   7.5  7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  *    -    *    -    *    *    *    *
w8a16/compressed-tensors       7.5  7.5  7.5  7.5  8.0  8.0  8.0  8.0  8.0  *    -    -    -    -    -    -    -
awq-4bit-g128/awq              7.5  7.5  7.5  7.5  7.5  7.5  7.5  7.5  7.5  *    *    *    -    -    -    -    -
gptq-4bit-g128/gptq            7.5  7.5  7.5  6.0  6.0  8.0  6.0  6.0  6.0  *    *    -    -    *    *    *    *
gptq-3bit-g128/gptq            -    -    -    6.0  6.0  -    6.0  6.0  6.0  *    *    -    -    -    -    -    -
torchao-int8/torchao           7.5  7.5  7.5  7.5  7.5  -    -    -    -    *    -    -    -    -    -    -    -
nf4/bitsandbytes               -    7.0  7.0  7.0  7.0  7.0  7.0  7.0  7.0  *    *    -    -    -    -    -    -
quanto-int4/quanto             -    -    -    -    -    -    -    -    -    *    *    -    -    -    -    -    -
aqlm/aqlm                      -    -    -    -    6.0  -    -    -    -    *    *    -    -    -    -    -    -
bitnet/bitnet                  -    -    -    -    -    -    -    -    -    *    -    *    *    *    *    *    *
spqr/spqr                      -    -    -    -    -    -    -    -    -    *    -    -    -    -    -    -    -
higgs/higgs                    -    -    -    -    -    -    -    -    -    *    -    -    -    -    -    -    -
fp_quant/fp_quant              -    -    -    -    -    -    -    -    -    *    -    -    -    -    -    -    -
quark/quark                    7.0  7.0  7.0  7.0  7.0  7.0  7.0  7.0  -    *    -    -    -    -    -    -    -
auto-round/auto-round          7.0  7.0  7.0  7.0  7.0  6.0  6.0  6.0  -    *    -    -    -    -    -    -    -
"""


def columns():
    for column in re.split(r",\s*", COLUMNS.strip()):
        name, _, number = column.partition(" ")
        yield name, tuple(map(int, number.split(".")))


def rows(table, *, stored):
    """(format, engine, release, the cell) of each cell."""
    for line in table.strip().splitlines():
        told, *cells = line.split()
        name, _, method = told.partition("/")
        for (engine, number), cell in zip(columns(), cells, strict=True):
            yield WeightFormat(name, stored, method), engine, number, cell


TRUTH = [*rows(ASKED, stored=False), *rows(STORED, stored=True)]


@cache
def on(capability):
    return find(CARDS[capability]).part


def cell(table, f, number):
    """What the engine's own rows say, in the words of the truth."""
    able = [c for c in CARDS if reads(table, f, number, on(c))]
    if not able:
        return "-"
    return "*" if len(able) == len(CARDS) and not oldest(table, f, number) else able[0]


def oldest(table, f, number):
    """Whether some capability is too old: 6.0 is the oldest of CARDS."""
    return any(r.least > (0, 0) for r in table if r.names(f) and r.released(number))


def differences(engine, table):
    return [
        (f.name, f.method, number, told)
        for f, name, number, told in TRUTH
        if name == engine and cell(table, f, number) != told
    ]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_reads_what_its_sources_say(engine):
    assert differences(engine, ENGINES[engine].reading) == []


def test_the_truth_is_about_every_format_and_the_newest_releases():
    asked = {f.name for f, *_ in rows(ASKED, stored=False)}
    assert {n for n in NAMES if n not in GGUF} <= asked
    newest = {(name, kind.newest) for name, kind in ENGINES.items()}
    assert newest <= set(columns())


# What changes with a release: the least capability before it and from it on; "hip": ROCm alone.
# Rows of a name of --quantization that never changes stand with the newest release.
CHANGES = """
vllm            nf4                            0.28     7.0  -
vllm            bitsandbytes                   0.28     7.0  -
vllm            gptq-3bit-g128                 0.22     6.0  -
vllm            gptq-8bit-g128                 0.22     6.0  7.5
vllm            fp8-block/fp8                  0.14     8.0  7.5
vllm            fp8-static/modelopt            0.27     8.9  8.0
vllm            fp8                            0.33     7.5  7.5
vllm            ptpc_fp8                       0.19     hip  -
vllm            fp8_per_block                  0.20     -    7.5
vllm            fp8_per_channel                0.24     -    7.5
vllm            mxfp4/mxfp4                    0.10.1   -    8.0
vllm            mxfp4/fp8                      0.20     -    9.0
vllm            nvfp4                          0.16     8.0  7.5
vllm            mxfp8                          0.20     -    7.5
vllm            w4a16-g128                     0.12     8.0  7.5
vllm            w3a16-g128                     0.25     -    7.5
vllm            hqq-4bit-g64                   0.15     8.0  -
vllm            GGUF/                          0.24     6.0  -
vllm            aqlm/aqlm                      0.10.1   6.0  -
sglang          bitsandbytes                   0.5.5    7.0  -
sglang          bitsandbytes                   0.5.7    -    7.0
sglang          bitsandbytes                   0.5.23   7.0  7.0
sglang          fp8                            0.5.23   8.0  8.0
sglang          gptq-3bit-g128                 0.5.20   6.0  -
sglang          gptq-4bit-g128                 0.5.20   6.0  8.0
sglang          fp8-dynamic/fbgemm_fp8         0.5.16   8.0  -
sglang          mxfp4/mxfp4                    0.5      -    8.0
sglang          mxfp4/fp8                      0.5.12   -    9.0
sglang          quark_mxfp4                    0.5.14   -    hip
sglang          nvfp4                          0.4.6    -    10.0
sglang          nvfp4                          0.5.14   10.0 8.0
sglang          nvfp4_online                   0.5.14   -    10.0
sglang          mxfp8                          0.5.9    -    10.0
sglang          torchao-int8                   0.5.18   7.5  -
sglang          quark/quark                    0.5.2    -    7.0
sglang          auto-round/auto-round          0.5.5    -    6.0
transformers    gptq-4bit-g128                 4.32     -    *
transformers    awq-4bit-g128                  4.35     -    *
transformers    aqlm/aqlm                      4.38     -    *
transformers    quanto-int8                    4.39     -    *
transformers    hqq-4bit-g64                   4.41     -    *
transformers    eetq                           4.41     -    *
transformers    GGUF/                          4.41     -    *
transformers    fp8-dynamic/fbgemm_fp8         4.43     -    *
transformers    fp8-static/compressed-tensors  4.45     -    *
transformers    w4a16-g128                     4.45     -    *
transformers    nvfp4/compressed-tensors       4.45     -    *
transformers    torchao-int8                   4.45     -    *
transformers    bitnet/bitnet                  4.46     -    *
transformers    vptq/vptq                      4.48     -    *
transformers    spqr/spqr                      4.49     -    *
transformers    fp8-block/fp8                  4.49     -    *
transformers    quark/quark                    4.50     -    *
transformers    auto-round/auto-round          4.52     -    *
transformers    fp_quant/fp_quant              4.54     -    *
transformers    mxfp4                          4.55     -    *
transformers    Q4_K_M                         5.18     -    own
mlx             bitnet/bitnet                  0.26     -    *
mlx             mlx-mxfp4                      0.27     -    *
mlx             mxfp4/mxfp4                    0.27     -    *
mlx             mlx-nvfp4                      0.30     -    *
mlx             w4a16-g32/compressed-tensors   0.30     -    *
mlx             awq-4bit-g128/awq              0.30     -    *
mlx             nvfp4/modelopt                 0.32     -    *
mlx             mxfp8/mxfp8                    0.32     -    *
llama.cpp       MXFP4_MOE                      6096     -    *
llama.cpp       Q2_0                           9512     -    *
ik_llama.cpp    MXFP4_MOE                      3834     -    *
ollama          Q2_0                           0.30.9   -    *
"""


def changes(engine):
    """(format, release, cell before it, cell from it on)"""
    for line in CHANGES.strip().splitlines():
        name, told, number, *cells = line.split()
        form, slash, method = told.partition("/")
        if name == engine:
            f = WeightFormat(form, bool(slash), method)
            yield f, tuple(map(int, number.split("."))), *cells


STACKS = (("hip", "mi300x"), ("own", "m3 ultra 96gb"))


def cell_or_hip(table, f, number):
    told = cell(table, f, number)
    others = (stack for stack, card in STACKS if reads(table, f, number, find(card).part))
    return next(others, told) if told == "-" else told


@pytest.mark.parametrize("engine", ENGINES)
def test_each_change_comes_with_its_release(engine):
    """Both sides of every boundary of every row."""
    table, told = ENGINES[engine].reading, list(changes(engine))
    for f, first, before, since in told:
        last = (*first[:-1], first[-1] - 1, 99)
        found = tuple(cell_or_hip(table, f, n) for n in (last, first))
        assert found == (before, since), (f, first)
    for row in table:
        known = {first for f, first, *_ in told if row.names(f)}
        assert {row.since, row.until} - {()} <= known, row


def test_the_first_card_with_units_for_a_format():
    """Ada multiplies in fp8; the formats with a scale for each block came with Blackwell."""
    for name, kind in ENGINES.items():
        for row in kind.reading:
            own = (10, 0) if re.match("nvfp4|mxfp8", row.forms) else (8, 9)
            assert row.native in ((0, 0), own), (name, row)


# Rows of an engine's own name for --quantization, and of what no release in COLUMNS shows
ELSEWHERE = re.compile(r"bitsandbytes|fp8|ptpc_fp8|fp8_.*|nvfp4_online|quark_mxfp4|Q2_0")


@pytest.mark.slow
@pytest.mark.parametrize("engine", each(3, ENGINES))
def test_the_law_fails_where_a_fact_is_broken(engine):
    """Each row in turn is taken out, or asks for a later card."""
    table = ENGINES[engine].reading
    for i, row in enumerate(table):
        if ELSEWHERE.fullmatch(row.forms) or row.stacks == ("own",):  # on cards of no column
            continue
        later = row._replace(least=(row.least[0] + 1, 0))
        for changed in ((), (later,)):
            assert differences(engine, (*table[:i], *changed, *table[i + 1 :])), row


def test_every_name_of_an_engine_is_read_by_its_newest_release_or_was():
    for kind in ENGINES.values():
        for name in kind.online:
            about = [row for row in kind.reading if re.fullmatch(row.forms, name)]
            assert about, (kind.name, name)
            assert all(row.source for row in about)


def test_offers_are_read():
    """What remedies, `fit` and `models` propose."""
    for kind in ENGINES.values():
        for card in CARDS:
            for form in offered(kind, kind.newest, on(card)):
                assert reads(kind.reading, WeightFormat(form), kind.newest, on(card))
    assert "nf4" not in offered(ENGINES["vllm"], (0, 33), on("9.0"))
    assert "nf4" in offered(ENGINES["vllm"], (0, 27), on("9.0"))


# Refusals


def checkpoint(quantization, name="llama-3.1-8b", **more):
    raw = {**catalogue.find(name).config, "quantization_config": quantization, **more}
    return of_config(raw)


MLX = {"group_size": 64, "bits": 4}


@pytest.mark.parametrize(
    ("stored", "engine", "says"),
    [
        (MLX, "vllm", "stored in mlx-4bit-g64, which vLLM 0.33 does not read.*--engine mlx does"),
        (MLX, "sglang", "SGLang 0.5.23 does not read"),
        (MLX, "transformers", "transformers 5.23 does not read"),
        (MLX, "llama.cpp", "llama.cpp 11200 does not read"),
        ({"quant_method": "quanto"}, "vllm", "quanto-int8.*--engine transformers does"),
        ({"quant_method": "eetq"}, "sglang", "eetq.*--engine transformers does"),
        ({"quant_method": "awq", "bits": 4}, "llama.cpp", "awq-4bit-g128"),
        ({"quant_method": "gptq", "bits": 3}, "vllm", "it did before 0.22"),
    ],
)
def test_a_checkpoint_that_is_not_read_is_refused(stored, engine, says):
    with pytest.raises(UnsupportedError, match=says) as caught:
        answer(checkpoint(stored), engine=engine, context=512)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["quanto-int4", "eetq", "mlx-4bit-g64", "TQ1_0", "fp4-dq"])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_format_that_is_not_read_is_refused(form, engine):
    if engine == "sglang" and form == "fp4-dq":  # bitsandbytes'
        return
    with pytest.raises(UnsupportedError, match=f"--quantization {form}: .* does not read it"):
        answer("llama-3.1-8b", engine=engine, context=512, quantization=form)


@pytest.mark.slow
def test_cards_decide():
    with pytest.raises(UnsupportedError, match=r"needs compute capability 8\.0, and T4 has 7.5"):
        answer("gpt-oss-20b", engine="vllm", context=512, gpu="t4")
    for engine in ("vllm", "sglang"):  # experts in four bits have kernels for Hopper and later
        with pytest.raises(
            UnsupportedError, match=r"needs compute capability 9\.0, and L20 has 8.9"
        ):
            answer("deepseek-v4-flash", engine=engine, context=512, gpu="l20:8")
        assert answer("deepseek-v4-flash", engine=engine, context=512, gpu="h100:8")
    with pytest.raises(UnsupportedError) as caught:  # no format but plain weights
        answer("qwen3-30b-a3b", engine="vllm", context=512, gpu="v100", quantization="nvfp4")
    assert str(caught.value).count("it needs compute capability 7.5") == 1
    assert "8.0" not in str(caught.value), "one threshold is enough"
    assert "it reads nothing but plain weights there" in str(caught.value)


@pytest.mark.parametrize(
    ("form", "gpu", "packed"),
    [
        ("fp8-tensor", "a100-80gb", True),
        ("fp8-tensor", "l20", False),
        ("nvfp4", "h100", True),
        ("nvfp4", "b200-sxm-180gb", False),
        ("awq-4bit-g128", "a100-80gb", False),  # whose products are in 16 bits everywhere
    ],
)
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_card_that_does_not_multiply_in_a_format_keeps_it_packed(form, gpu, packed, engine):
    found = answer("llama-3.1-8b", engine=engine, context=512, quantization=form, gpu=gpu)
    said = [w for w in found.warnings if "keeps the weights packed" in w]
    assert bool(said) is packed


def test_releases_decide():
    asked = {"engine": "vllm", "context": 512, "quantization": "bitsandbytes"}
    with pytest.raises(UnsupportedError, match=r"it did before 0\.28; since then a plug-in"):
        answer("llama-3.1-8b", **asked)
    assert answer("llama-3.1-8b", **asked, engine_version="0.27")


def test_the_first_release_without_it_does_not_read_it():
    table, f = ENGINES["vllm"].reading, WeightFormat("nf4")
    assert [reads(table, f, n, None) for n in ((0, 27, 1), (0, 28))] == [True, False]


def test_whose_libraries_it_needs_decides():
    amd, table = find("mi300x").part, ENGINES["vllm"].reading
    f = WeightFormat("hqq-4bit-g64")
    assert reads(table, f, (0, 13), on("9.0"))
    assert not reads(table, f, (0, 13), amd)
    assert "CUDA devices alone" in lacking(table, f, (0, 13), amd)
    assert reads(table, WeightFormat("fp8-tensor"), (0, 33), amd)


def test_who_reads_is_named():
    by = Loader(ENGINES["vllm"], (0, 33), on("9.0"), "m")
    aqlm, nothing = (WeightFormat(n, stored=True, method=n) for n in ("aqlm", "nothing"))
    assert elsewhere(aqlm, by) == ("--engine transformers does", False)
    assert elsewhere(nothing, by) == ("no engine here reads it", False)
    mac = by._replace(card=find("apple-m3-max-64gb").part)
    assert elsewhere(aqlm, mac) == ("--engine transformers does", False)
    assert re.search(
        r"fp8-tensor, mxfp4, nvfp4 and \d kinds more$", weight_formats.refusal(aqlm, by)
    )
    assert lacking(ENGINES["vllm"].reading, WeightFormat("nothing"), (0, 33), None) == ""


def test_the_engine_of_a_question_that_names_none_reads_the_model():
    part, mac = checkpoint(MLX).parts[0], find("apple-m3-max-64gb").part
    assert by_default(part, None, mac).name == "mlx"
    assert by_default(part, None, on("8.9")).name == "transformers"  # which then says who does
    assert by_default(part, scheme("Q4_K_M").name, mac).name == "transformers"


V4 = "deepseek-v4-flash"  # FP8 with experts in MXFP4


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["vllm", "sglang", "mlx"])
def test_no_refusal_sends_in_a_ring(engine):
    """On an A100 no server has its kernels: whoever is named answers."""
    asked = {"gpu": "a100-80gb:8", "context": 4096}
    with pytest.raises(UnsupportedError) as refused:
        weighbridge.infer(V4, engine=engine, **asked)
    named = re.split(", | or ", re.search(r"; --engine (.+) does$", str(refused.value))[1])
    assert "transformers" in named and engine not in named
    for other in named:
        assert weighbridge.infer(V4, engine=other, **asked).peak.expected > 0


@pytest.mark.slow
def test_a_refusal_names_the_checkpoints_own_format():
    with pytest.raises(UnsupportedError, match="stored in fp8-block, experts mxfp4, which vLLM"):
        weighbridge.infer(V4, engine="vllm", gpu="a100-80gb:8")
    with pytest.raises(
        UnsupportedError, match=r"stored in mxfp4, .* needs compute capability 8\.0"
    ):
        weighbridge.infer("gpt-oss-20b", engine="vllm", gpu="v100")


def test_where_no_engine_answers_it_is_said(monkeypatch):
    monkeypatch.setattr("weighbridge.answers.estimate.refusals._answers", lambda *asked: False)
    with pytest.raises(UnsupportedError, match=r"; no engine here does on Tesla V100 SXM2 16GB"):
        weighbridge.infer("gpt-oss-20b", engine="vllm", gpu="Tesla V100 SXM2 16GB")
    with pytest.raises(UnsupportedError, match=r"--engine mlx does on a Mac$"):
        weighbridge.infer("qwen3-0.6b", engine="vllm", gpu="4090", quantization="mlx-4bit-g64")


@pytest.mark.slow
def test_a_server_is_said_to_keep_what_it_reads_there():
    said = weighbridge.infer(V4, engine="transformers", gpu="a100-80gb:8").warnings
    assert any(w.endswith("unpacks the weights into bfloat16") for w in said)
    fp8 = weighbridge.infer("qwen3-235b-a22b-fp8", engine="transformers", gpu="a100-80gb:8")
    assert any("--engine vllm keeps them packed" in w for w in fp8.warnings)


def test_a_long_error_is_cut_between_words():
    names = ", ".join(f"format-{n}bit-g128" for n in range(40))
    cut = one_line(f"it reads {names}; give one of them")
    head, _, tail = cut.partition(" ... ")
    assert len(cut) <= 300
    assert head.split(", ")[-1].rstrip(",") in names
    assert tail.split(",")[0] in names
    assert "..." in one_line("x" * 400)  # one long word has no better place


@all_of(
    ("name", "near"),
    [
        ("awq-4bit-g128", "Q4_K_M"),  # the group is no number of bits
        ("gptq-4bit-g64", "Q4_K_M"),
        ("gptq-8bit-g128", "Q8_0"),
        ("gptq-3bit-g64", "Q3_K_M"),
        ("int8-wo", "Q8_0"),
        ("nf4", "Q4_K_M"),
    ],
)
def test_a_format_that_gguf_has_not_names_those_of_as_many_bits(name, near):
    assert not_of_gguf(name).split("near are ")[1].startswith(near)


@pytest.mark.parametrize(
    ("engine", "form"),
    [
        *((engine, None) for engine in ("ollama", "llama.cpp", "vllm", "transformers", None)),
        *(("ollama", "Q8_0"), ("llama.cpp", "Q8_0"), ("vllm", "fp8"), ("transformers", "nf4")),
    ],
)
def test_a_repository_of_mlx_is_for_mlx_alone(engine, form):
    model = weighbridge.prepare("mlx-community/Qwen3-8B-4bit", offline=True)
    named = {} if engine is None else {"engine": engine}
    with pytest.raises(UnsupportedError) as refused:
        model.infer(**named, quantization=form, gpu="4090")
    assert "are stored in mlx-4bit-g64" in str(refused.value)
    assert str(refused.value).endswith("; --engine mlx does on a Mac")
