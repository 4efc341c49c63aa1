"""What every engine says of a cache, by hand: Llama 3.1 8B keeps 32 layers x 2 x 8 heads x 128 numbers of
16 bits a token."""

import pytest

from tests.engines.answers import answer

TOKEN = 32 * 2 * 8 * 128 * 2
ENGINES = ("transformers", "vllm", "sglang", "llama.cpp", "ik_llama.cpp", "ollama", "mlx")


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_of_a_token(engine):
    found = answer("llama-3.1-8b", engine=engine, context=4096)
    assert found.derived["kv_cache_bytes_per_token"] == TOKEN
