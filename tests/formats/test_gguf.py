import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import work
from tests.cases import all_of
from tests.formats.build_gguf import CODES, Writer, small
from tests.formats.drive import drive, parse
from weighbridge.base.dtypes import GGML
from weighbridge.base.errors import BadFileError
from weighbridge.models.formats.gguf import KEPT, Array, gguf


def refuses(file, words, size=None):
    with pytest.raises(BadFileError, match=words) as caught:
        parse(gguf(size), file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


# Edges, by hand


@pytest.mark.parametrize(("order", "version"), [("<", 2), ("<", 3), (">", 3)])
def test_versions_and_byte_orders(order, version):
    file = small(order, version).file()
    found = parse(gguf(len(file), file="m.gguf"), file)
    assert (found.version, found.big_endian) == (version, order == ">")
    assert found.metadata["general.architecture"] == "llama"
    assert found.metadata["llama.attention.head_count_kv"].values == (8, 4)
    assert [(t.name, t.dtype.name, t.shape, t.nbytes, t.file) for t in found.tensors] == [
        ("token_embd.weight", "Q8_0", (3, 64), 3 * 2 * 34, "m.gguf"),
        ("blk.0.attn_q.weight", "Q4_K", (2, 256), 2 * 144, "m.gguf"),
        ("output_norm.weight", "F32", (64,), 256, "m.gguf"),
        ("blk.0.exps.weight", "Q4_0", (3, 2, 32), 6 * 18, "m.gguf"),
    ]
    assert found.data_offset % 64 == 0
    assert found.file_bytes == len(file) - (128 - 6 * 18)


@all_of("kind", CODES)
def test_every_type_of_value(kind):
    w = Writer()
    value = {"f32": 0.25, "f64": 0.1, "bool": True}.get(kind, 100)
    w.key("one", w.value(kind, value)).key("many", w.array(kind, [value] * 3)).key(
        "none", w.array(kind, [])
    )
    found = parse(gguf(), w.file()).metadata
    assert found["one"] == value
    assert type(found["one"]) is type(value)
    assert found["many"].values == (value,) * 3
    assert found["none"] == Array(found["many"].kind, 0, ())


@all_of("number", GGML)
def test_every_type_of_tensor(number):
    d = GGML[number]
    found = parse(gguf(), Writer().tensor("t", [d.block * 2, 3], number).head())
    assert found.tensors[0] == ("t", d, (3, d.block * 2), 6 * d.nbytes + 3 * d.head, "")


def test_long_arrays_keep_their_length_only():
    w = Writer()
    w.key("short", w.array("i32", range(KEPT))).key("long", w.array("i32", range(KEPT + 1)))
    w.key("words", w.array("str", ["x"] * 10)).key("nested", w.nested(3)).key(
        "after", w.value("u8", 7)
    )
    found = parse(gguf(), w.file()).metadata
    assert found["short"].values == tuple(range(KEPT))
    assert found["long"] == Array("int32", KEPT + 1, None)
    assert found["words"] == Array("string", 10, None)
    assert (found["nested"].length, found["after"]) == (1, 7)


@pytest.mark.slow
def test_values_kept_are_bounded_in_all():
    w = Writer()
    for i in range(300):
        w.key(f"k{i}", w.array("u8", bytes(KEPT)))
    kept = [a.values for a in parse(gguf(), w.file()).metadata.values()]
    assert sum(v is not None for v in kept) == 256


def test_a_scalar_and_a_file_without_tensors():
    assert parse(gguf(), Writer().tensor("s", []).file()).tensors[0].shape == ()
    file = Writer().file()
    assert parse(gguf(len(file)), file).file_bytes == 24


def test_broken_text_in_values_is_not_our_business():
    w = Writer()
    w.key("general.author", w.value("str", b"Ren\xe9"))
    assert parse(gguf(), w.file()).metadata["general.author"] == "Ren�"


def test_a_part_says_which_it_is():
    w = Writer()
    w.key("split.no", w.value("u16", 1)).key("split.count", w.value("u16", 3))
    assert parse(gguf(), w.file()).metadata == {"split.no": 1, "split.count": 3}


# Laws


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 2000), st.booleans())
def test_any_first_read_gives_the_same_tensors(first, known):
    file = small().file()
    found, reads = drive(gguf(len(file) if known else None, first_read=first), file)
    assert found == parse(gguf(), file)
    assert all(a.stop == b.start for a, b in zip(reads.ranges, reads.ranges[1:], strict=False))


@all_of("cut", range(0, 620, 7))
def test_every_truncation_is_refused(cut):
    file, head = small().file(), len(small().head())
    refuses(file[:cut], "ends after" if cut < head else "", size=None) if cut < head else None
    refuses(file[:cut], "ends after|where its tensors end", size=cut)


@pytest.mark.slow
def test_a_large_vocabulary_is_stepped_over_once():
    """Once for each read of the file, which is a call for each string."""
    w, size, answers = Writer(), 250_000, []
    w.key("tokenizer.ggml.tokens", w.array("str", [f"token {i}" for i in range(size)]))
    w.key("tokenizer.ggml.scores", w.array("f32", [0.0] * size)).tensor("t", [3])
    file = w.file()
    calls = work.calls_made(lambda: answers.append(drive(gguf(len(file)), file)))
    ((found, reads),) = answers
    assert calls <= len(reads.ranges) * (size + 1000)
    assert found.metadata["tokenizer.ggml.tokens"].length == 250_000
    assert len(reads.ranges) <= 4
    assert reads.nbytes <= len(file)


# Hostile files


def test_not_gguf():
    refuses(b"PK\x03\x04 nothing of the kind", "begins with b'PK")
    refuses(b"GGUF", "ends after 4 bytes")
    refuses(b"", "ends after 0 bytes")


@pytest.mark.parametrize(
    ("version", "words"),
    [(1, "version 1"), (4, "version 4; known: 2, 3"), (0, "version 0"), (1 << 24, "version 1 ")],
)
def test_versions(version, words):
    refuses(Writer(version=version).file(), words)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"tensors": 1 << 63}, "claims 9,223,372,036,854,775,808 tensors"),
        ({"keys": (1 << 64) - 1}, "claims 18,.* keys"),
        ({"keys": 1000}, "name of a key: a string of"),
        ({"tensors": 1000}, "ends after"),
    ],
)
def test_counts(counts, words):
    refuses(small().file(**counts), words)


def test_the_wrong_byte_order():
    """One that says little-endian in its version and counts in big-endian, and the reverse."""
    little, big = small("<").file(), small(">").file()
    refuses(big[:4] + little[4:8] + big[8:], "claims [0-9,]{20,} tensors")
    refuses(little[:4] + big[4:8] + little[8:], "claims [0-9,]{20,} tensors")


def pair(raw):
    return Writer().key("k", raw).file()


def u(code, *numbers):
    return struct.pack("<" + code, *numbers)


@all_of(
    ("raw", "words"),
    [
        (u("I", 13), "'k': unknown type of value 13"),
        (u("IIQ", 9, 77, 1), "'k': unknown type of array 77"),
        (u("IQ", 8, 1 << 63), "a string of 9,2"),
        (u("IQ", 8, 1 << 20), "ends after"),
        (u("IIQ", 9, 4, 1 << 62), "more than 67,108,864 bytes"),
        (u("IIQ", 9, 8, 1 << 40), "too large or nested"),
        (u("IIQ", 9, 8, 1000), "ends after"),
        (u("IIQQ", 9, 8, 2, (1 << 64) - 1), "more than 67,108,864 bytes"),
        (Writer().nested(8), "too large or nested"),
        (Writer().nested(100_000), "too large or nested"),
    ],
)
def test_hostile_values(raw, words):
    refuses(pair(raw), words)


def test_names():
    w = Writer()
    refuses(Writer().key(b"\xff", w.value("u8", 1)).file(), "not UTF-8")
    refuses(
        Writer().key("k", w.value("u8", 1)).key("k", w.value("u8", 1)).file(), "the key 'k' twice"
    )
    refuses(Writer().tensor(b"\xff", [1]).file(), "name of a tensor that is not UTF-8")
    refuses(Writer().tensor("t", [1]).tensor("t", [1]).file(), "the tensor 't' twice")
    refuses(Writer().tensor("t" * 70_000, [1]).file(), "name of a tensor: a string of 70,000")


@pytest.mark.parametrize("alignment", [0, 3, 48, 33])
def test_alignment_must_be_a_power_of_two(alignment):
    w = Writer()
    refuses(w.key("general.alignment", w.value("u32", alignment)).file(), "not a power of two")


def test_alignment_must_be_a_number():
    w = Writer()
    refuses(w.key("general.alignment", w.value("f32", 32.0)).file(), "not a power of two")
    w = Writer()
    refuses(w.key("general.alignment", w.value("bool", True)).file(), "not a power of two")


@all_of(
    ("dims", "kind", "words"),
    [
        ([32], 99, "'t': unknown ggml type 99"),
        ([32], 31, "unknown ggml type 31, Q4_0_4_4, which ggml dropped"),
        ([33], "Q8_0", "rows of 33 Q8_0 are not whole blocks of 32"),
        ([128, 2], "Q4_K", "rows of 128 Q4_K are not whole blocks of 256"),
        ([1, 1, 1, 1, 1], "F32", "has 5 dimensions"),
        ([1 << 63], 0, "too many"),
        ([1 << 32, 1 << 32], 0, "too many"),
        ([0, (1 << 64) - 1], 0, "too many"),
    ],
)
def test_hostile_tensors(dims, kind, words):
    refuses(Writer().tensor("t", dims, kind).head(), words)


def test_offsets():
    refuses(Writer().tensor("t", [1], offset=4).head(), "'t': offset 4 is not a multiple of 32")
    two = Writer().tensor("a", [16]).tensor("b", [16], offset=32)
    refuses(two.head(), "'b': at 32 it overlaps 'a', which ends at 64")
    file = Writer().tensor("t", [100]).file()
    refuses(file[:-29], "where its tensors end at", size=len(file) - 29)


def test_tensors_may_touch_and_not_overlap_by_a_byte():
    assert (
        len(
            parse(
                gguf(), Writer().align(1).tensor("a", [4]).tensor("b", [1], offset=16).head()
            ).tensors
        )
        == 2
    )
    refuses(
        Writer().align(1).tensor("a", [4]).tensor("b", [1], offset=15).head(), "it overlaps 'a'"
    )


def test_a_rank_that_is_absurd():
    head = Writer().string("t") + u("I", 1 << 31)
    refuses(b"GGUF" + u("IQQ", 3, 1, 0) + head, "has 2147483648 dimensions")
