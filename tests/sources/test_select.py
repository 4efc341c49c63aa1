"""Which files a name means. The names are those of real repositories."""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.models.sources import select
from weighbridge.models.sources.base import SourceFile

NAMES = (
    "README.md",
    "mmproj-model-Q4_K_M.gguf",
    "model-IQ4_XS.gguf",
    "model-Q4_K_M.gguf",
    "model-Q4_K_S.gguf",
    "model-UD-Q4_K_XL.gguf",
    "model.Q8_0.gguf",
    "BF16/model-00001-of-00002.gguf",
    "BF16/model-00002-of-00002.gguf",
    "Q6_K/model-Q6_K-00001-of-00002.gguf",
    "Q6_K/model-Q6_K-00002-of-00002.gguf",
    "Q5_K_M/model-Q5_K_M-00001-of-00003.gguf",
    "Q5_K_M/model-Q5_K_M-00003-of-00003.gguf",
    "a/x-F16.gguf",
    "b/x-F16.gguf",
)
ENTRIES = tuple(SourceFile(name, 1) for name in NAMES)


@all_of(
    ("quant", "expected"),
    [
        ("Q4_K_M", ["model-Q4_K_M.gguf"]),
        ("q4_k_m", ["model-Q4_K_M.gguf"]),
        ("UD-Q4_K_XL", ["model-UD-Q4_K_XL.gguf"]),
        ("Q4_K_XL", ["model-UD-Q4_K_XL.gguf"]),
        ("Q8_0", ["model.Q8_0.gguf"]),
        ("IQ4_XS", ["model-IQ4_XS.gguf"]),
        ("BF16", ["BF16/model-00001-of-00002.gguf", "BF16/model-00002-of-00002.gguf"]),
        ("Q6_K", ["Q6_K/model-Q6_K-00001-of-00002.gguf", "Q6_K/model-Q6_K-00002-of-00002.gguf"]),
    ],
)
def test_a_quantization_is_a_word_of_the_path(quant, expected):
    assert [e.path for e in select.quantization(ENTRIES, quant, "org/name")] == expected


def test_quantizations_that_are_not_there():
    for quant in ("Q4_K", "Q4_XS", "4_K_M"):
        with pytest.raises(NotFoundError, match=f"org/name has no GGUF file of '{quant}'; it has"):
            select.quantization(ENTRIES, quant, "org/name")
    with pytest.raises(NotFoundError, match="nor any other"):
        select.quantization((SourceFile("config.json", 1),), "Q4_K_M", "org/name")
    with pytest.raises(UsageError, match=r"of org/name: a/x-F16\.gguf, b/x-F16\.gguf; name one"):
        select.quantization(ENTRIES, "F16", "org/name")
    with pytest.raises(NotFoundError, match=r"no file 'Q5_K_M/model-Q5_K_M-00002-of-00003\.gguf'"):
        select.quantization(ENTRIES, "Q5_K_M", "org/name")


def test_files_and_folders():
    assert select.file(ENTRIES, "README.md", "r") == (SourceFile("README.md", 1),)
    part = "BF16/model-00002-of-00002.gguf"
    assert [e.path for e in select.file(ENTRIES, part, "r")] == list(select.parts(part))
    assert [e.path for e in select.folder(ENTRIES, "b", "r")] == ["x-F16.gguf"]
    with pytest.raises(NotFoundError, match=r"it has model-Q4_K_M\.gguf"):
        select.file(ENTRIES, "model-Q4_KM.gguf", "r")
    with pytest.raises(NotFoundError, match=r"no folder 'BF'; it has BF16"):
        select.folder(ENTRIES, "BF", "r")


def test_parts():
    assert select.parts("x.gguf") == ("x.gguf",)
    assert select.parts("m-00001-of-00002.safetensors") == ("m-00001-of-00002.safetensors",)
    assert len(select.parts("m-00007-of-00163.gguf")) == 163
    for bad in ("m-00000-of-00002.gguf", "m-00001-of-00000.gguf", "m-00001-of-99999.gguf"):
        with pytest.raises(BadFileError, match="cannot be"):
            select.parts(bad)
