"""Trees that our programs declare, beside the parameters of diffusers' and transformers' own classes."""

import pytest

pytest.importorskip("torch", reason="the oracle is a class of diffusers")
pytest.importorskip("diffusers", reason="the oracle is a class of diffusers")

from tests.cases import each
from tests.torch.cases_pictures import CASES as IMAGES
from tests.torch.cases_videos import CASES as VIDEOS
from tests.torch.picture_law import tree
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import components

pytestmark = pytest.mark.filterwarnings("ignore")  # what diffusers deprecates
CASES = {
    **{name: case.config for name, case in {**IMAGES, **VIDEOS}.items()},
    **{
        f"{name} {part}": config
        for name in pipelines.names()
        for part, config in pipelines.find(name).parts.items()
        if components.known(config)
    },
}
# Trees of transformers' classes are those of arch/families
CASES = {name: config for name, config in CASES.items() if "_class_name" in config}


@pytest.mark.parametrize("name", each(2, list(CASES)))
def test_names_and_shapes(name):
    config = CASES[name]
    declared = {p.name: p.shape for p in components.blueprint(config).params}
    assert declared == tree(config)
