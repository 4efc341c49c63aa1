"""Layers that diffusers itself leaves as they are where the others rest in fp8."""

import pytest

from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import formats
from weighbridge.pictures.config import class_of

diffusers = pytest.importorskip("diffusers")


def patterns(cls):
    """Words that tell more modules than those of all classes."""
    said = (*(cls._skip_layerwise_casting_patterns or ()), *(cls._keep_in_fp32_modules or ()))
    everywhere = formats.UNCAST.split("|")
    return {word for word in said if not any(one in word for one in everywhere)}


def test_each_class_skips_what_we_know_of_it():
    recipes = map(pipelines.find, pipelines.names())
    names = {class_of(r.parts[part]) for r in recipes for part in r.recipe["denoisers"]}
    unlike = {}
    for name in names:
        cls = getattr(diffusers, name, None)
        ours = [w for begins, w in formats.UNCAST_OF.items() if name.startswith(begins)]
        known = {word for words in ours for word in words.split("|")}
        inside = {"rope", "scale_shift_table", "time_embedder"}  # no layers, or of an embedder
        if cls is not None and patterns(cls) - inside != known:
            unlike[name] = patterns(cls)
    assert not unlike
