"""Releases in which an engine changed, as their sources say: the one before differs."""

from itertools import pairwise

import pytest

from tests.cases import all_of
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.mlx.rules import mlx_rules
from weighbridge.engines.ollama.rules import ollama_rules
from weighbridge.engines.servers.communication import BESIDE_SYMMETRIC, SYMMETRIC
from weighbridge.engines.sglang.rules import rules as sglang
from weighbridge.engines.vllm import effective
from weighbridge.engines.vllm.rules import rules as vllm
from weighbridge.workload import Infer

OF_SGLANG = [(0, 4, n) for n in range(12)] + [(0, 5, n) for n in range(24)]
OF_VLLM = [(0, n, m) for n in range(9, 34) for m in range(3)]
OF_OLLAMA = [(0, n, m) for n in range(6, 32) for m in range(12)]
OF_MLX = [(0, n, m) for n in range(20, 34) for m in range(8)]


@pytest.mark.parametrize(
    ("rules", "releases", "changes"),
    [
        (
            sglang,
            OF_SGLANG,
            [(0, 4, n) for n in (1, 5, 6, 7, 8, 10)]
            + [(0, 5, n) for n in (2, 3, 5, 8, 9, 10, 11, 14, 15, 16, 17, 18, 20, 21)],
        ),
        (
            vllm,
            OF_VLLM,
            [(0, 10, n) for n in range(3)]
            + [(0, n, 0) for n in range(11, 21)]
            + [(0, 20, 1)]
            + [(0, n, 0) for n in (*range(21, 31), 33)],
        ),
        (
            ollama_rules,
            OF_OLLAMA,
            [(0, 6, n) for n in (3, 7, 8)]
            + [(0, 10, 0), *((0, 11, n) for n in (3, 5, 10, 11)), (0, 12, 11)]
            + [(0, 13, 4), (0, 15, 5), (0, 30, 0)],
        ),
        (
            mlx_rules,
            OF_MLX,
            [(0, 22, 2), (0, 27, 1), (0, 28, 2), (0, 28, 3), (0, 30, 6), (0, 30, 7), (0, 32, 0)],
        ),
    ],
    ids=("sglang", "vllm", "ollama", "mlx"),
)
def test_releases_that_changed(rules, releases, changes):
    def facts(release):
        return repr(rules(release)).replace(repr(release), "")

    found = [
        new
        for old, new in pairwise(releases)
        if rules(new) != rules(old) and facts(new) != facts(old)
    ]
    assert found == changes


@all_of(
    ("release", "sizes"),
    [
        # server_args.py: below so many MiB, chunk, largest batch on few ranks and on many
        ((0, 4), [(25_000, 2048, 8, 8), (8192, 160, 160)]),
        ((0, 4, 1), [(25_000, 2048, 8, 80), (8192, 160, 160)]),
        ((0, 4, 7), [(25_000, 2048, 8, 80), (180_000, 8192, 160, 160), (16_384, 160, 160)]),
        ((0, 4, 8), [(35 * 1024, 2048, 8, 80), (160 * 1024, 8192, 160, 160), (16_384, 160, 160)]),
        *(
            (
                release,
                [
                    (20 * 1024, 2048, 8, 8),
                    small,
                    (60 * 1024, 4096, 32, 160),
                    (160 * 1024, 8192, 256, 512),
                    (16_384, 512, 512),
                ],
            )
            for release, small in (
                ((0, 5, 3), (35 * 1024, 2048, 16, 80)),
                ((0, 5, 5), (35 * 1024, 2048, 24, 80)),
                ((0, 5, 20), (35 * 1024, 4096, 48, 160)),
            )
        ),
    ],
)
def test_sizes_by_card_of_sglang(release, sizes):
    *below, rest = (tuple(size) for size in sglang(release).sizes)
    assert [*below, rest[1:]] == sizes
    assert rest[0] > 1 << 40  # any card


def test_room_for_drafts_in_sglang():
    """GiB of mem_fraction_static: server_args.py (_handle_gpu_memory_settings)."""
    rooms = [(r.standalone, r.drafts) for r in map(sglang, ((0, 5, 1), (0, 5, 2), (0, 5, 11)))]
    assert rooms == [(2, 2), (6, 2), (6, 4)]


def test_defaults_of_vllm():
    """Shares of a card, tokens of experts' chunks, buffers, and the latents' two tries."""
    assert [vllm((0, n)).utilization for n in (19, 20)] == [0.90, 0.92]
    assert [vllm((0, n)).chunk for n in (9, 12, 17, 18)] == [65_536, 16_384, 16_384, None]
    assert [vllm((0, n)).extra_vocabulary for n in (11, 12)] == [256, 0]
    assert [vllm((0, n)).scales for n in (9, 27, 28)] == [7, 7, 4]
    assert [vllm((0, n)).latent_buffers for n in (9, 10, 12, 25)] == [
        (0, 0),
        (1, 0),
        (2, 1),
        (1, 0),
    ]
    assert [vllm((0, n)).least_graphs for n in (11, 12)] == [4, 0]
    assert vllm((0, 11)).blocks == (1, 8, 16, 32, 64, 128)
    assert vllm((0, 12)).blocks == (1, 8, 16, 32, 64, 128, 256)


@pytest.mark.parametrize(
    ("gib", "release", "usual"),
    [
        # usage_context of EngineArgs: a batch's tokens and sequences
        (None, (0, 33), (2048, 256)),
        (24, (0, 33), (2048, 256)),
        (69, (0, 33), (2048, 256)),
        (70, (0, 33), (8192, 1024)),
        (159, (0, 33), (8192, 1024)),
        (160, (0, 33), (16_384, 1024)),
        (160, (0, 20), (8192, 1024)),
    ],
)
def test_a_batch_of_vllm_by_the_memory_of_a_card(monkeypatch, gib, release, usual):
    monkeypatch.setattr(effective.hardware, "total", lambda budget: gib * GIB)
    monkeypatch.setattr(effective.hardware, "small_for_its_memory", lambda budget, carved: False)
    assert effective.tier(None if gib is None else object(), vllm(release)) == usual


@pytest.mark.parametrize(
    ("release", "blackwell", "tokens", "sequences", "wide", "largest"),
    [
        ((0, 33), False, 8192, 1024, False, 512),
        ((0, 33), False, 8192, 100, False, 200),  # twice as many as sequences
        ((0, 33), False, 64, 1024, False, 64),  # no more than a batch has
        ((0, 33), True, 8192, 1024, False, 1024),
        ((0, 33), False, 8192, 1024, True, 1024),
        ((0, 10), True, 8192, 1024, False, 512),
    ],
)
def test_the_largest_graph_of_vllm(
    monkeypatch, release, blackwell, tokens, sequences, wide, largest
):
    monkeypatch.setattr(effective.hardware, "blackwell", lambda budget: blackwell)
    w, at = Infer(), (tokens, sequences)
    assert effective.captures(at, 1, w, None, vllm(release), wide=wide)[-1] == largest


def test_buffers_of_symmetric_memory():
    """MiB by ranks: vllm and sglang distributed/device_communicators/all_reduce_utils.py
    (SYMM_MEM_ALL_REDUCE_MAX_SIZES, CUSTOM_ALL_REDUCE_MAX_SIZES)."""

    def mib(table):
        return {chip: [n / MIB for n in by.values()] for chip, by in table.items()}

    assert mib(SYMMETRIC) == {
        (9, 0): [64, 32, 64, 64],
        (10, 0): [8, 32, 128, 128],
        (10, 3): [4, 32, 32, 64],
    }
    assert mib(BESIDE_SYMMETRIC) == {(9, 0): [64, 32, 0.5, 0.25], (10, 0): [2, 2, 1, 1]}
    tables = (*SYMMETRIC.values(), *BESIDE_SYMMETRIC.values())
    assert {tuple(by) for by in tables} == {(2, 4, 6, 8)}
