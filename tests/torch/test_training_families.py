"""A training step in bfloat16 of every family of decoders that has a program of its own."""

import pytest

pytest.importorskip("torch", reason="the oracle trains transformers' classes")
pytest.importorskip("transformers", reason="the oracle trains transformers' classes")

from tests.cases import each
from tests.torch.cases_training import CONFIGS, same


@pytest.mark.parametrize("kind", each(4, CONFIGS))
def test_every_family_in_bfloat16(kind):
    same(kind)
