"""One table of settings: what it accepts, what it refuses, and that every door uses it."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.settings.setting import fields
from weighbridge.workload import INFER, LOAD, TRAIN, Infer, Load, foreign, read


def test_the_table_and_the_records_name_the_same_settings():
    assert fields(Infer).keys() - {"engine_defaults", "unmodelled"} == INFER.keys()
    assert fields(Load) == dict(LOAD)


def test_no_two_settings_share_a_flag():
    flags = [flag for s in INFER.values() for flag in (s.flag, *s.flags)]
    assert len(flags) == len(set(flags))


@all_of(
    ("name", "written", "meant"),
    [
        ("context", "8K", 8192),
        ("context", "8k", 8000),
        ("context", 8192, 8192),
        ("context", 8192.0, 8192),
        ("image_size", "1280x720", (720, 1280)),
        ("image_size", 448, (448, 448)),
        ("image_size", [720, 1280], (720, 1280)),
        ("kv_cache_memory_bytes", "2GiB", 2 << 30),
        ("kv_cache_memory_bytes", 5, 5),
        ("headroom", "10%", "10%"),
        ("tensor_split", "3,1", (3.0, 1.0)),
        ("gpu_memory_utilization", "0.9", 0.9),
        ("n_gpu_layers", -1, -1),
        ("enforce_eager", False, False),
        ("attention", "flash", "flash"),
    ],
)
def test_what_is_written_is_what_is_meant(name, written, meant):
    assert getattr(read("infer", {name: written}), name) == meant


@all_of(
    ("name", "written", "says"),
    [
        ("context", 0, "--context is at least 1"),
        ("context", "many", "8K (8,192)"),
        ("context", True, "--context"),
        ("context", 8.5, "--context"),
        ("batch_size", -1, "at least 1"),
        ("batch_size", 1 << 40, "at most"),
        ("gpu_memory_utilization", 92, "at most 1"),
        ("gpu_memory_utilization", float("nan"), "--gpu-memory-utilization"),
        ("image_size", "0x5", "pixels"),
        ("image_size", [1, 2, 3], "pixels"),
        ("tensor_split", "0,0", "shares"),
        ("enforce_eager", "yes", "true or false"),
        ("attention", "fast", "flash, efficient"),
        ("context", "9" * 400, "--context"),
        ("dtype", "", "a name"),
        ("contxt", 5, "did you mean context"),
    ],
)
def test_what_is_wrong_is_said_with_its_name(name, written, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        read("infer", {name: written})


def test_none_is_the_default():
    assert read("infer", dict.fromkeys(INFER)) == Infer()


def test_a_setting_of_another_engine_is_refused():
    with pytest.raises(UsageError, match=r"--n-gpu-layers is a setting of llama\.cpp"):
        foreign(read("infer", {"n_gpu_layers": 0}), "vllm")
    foreign(read("infer", {"n_gpu_layers": 0}), "llama.cpp")


def test_a_flag_that_is_off_is_no_setting_of_another_engine():
    foreign(Infer(swa_full=False), "vllm")


@pytest.mark.slow
@given(
    st.sampled_from(sorted(INFER)), st.one_of(st.text(), st.floats(), st.integers(), st.booleans())
)
def test_whatever_is_written_is_read_or_refused(name, written):
    with suppress(UsageError):
        read("infer", {name: written})


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_default_that_help_names_is_the_one_that_is_used(method):
    used = weighbridge.train("qwen3-0.6b", method=method, framework="trainer").workload
    named = {name: one.default for name, one in TRAIN.items() if one.default is not None}
    told = {name: value for name, value in named.items() if used.get(name) is not None}
    assert {name: used[name] for name in told} == {**told, "method": method}
    assert "optimizer" in told
