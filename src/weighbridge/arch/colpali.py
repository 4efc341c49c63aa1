"""ColPali and ColQwen2: a vision-language model without its head, and one Linear to 128.

Sources: transformers 5.23 models/{colpali,colqwen2}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, linear
from weighbridge.arch.compose import Inner, composite, nested
from weighbridge.arch.config import Config
from weighbridge.arch.model_types import ModelType


def family_of(name: str, renames: tuple[tuple[str, str], ...] = ()) -> Family:
    vlm = Inner(path="vlm.", config="vlm_config", label="language model")

    def projection(c: Config, at: str) -> Iterator[Param]:
        text = nested(c, vlm).sub("text_config")
        out = c.num("embedding_dim", default=128)
        yield from linear(f"{at}embedding_proj_layer", out, text.num("hidden_size"), bias=True)

    return composite(
        vlm,
        projectors=("embedding_proj_layer.",),
        base="",
        cls=f"{name}ForRetrieval",
        heads={"ForRetrieval": projection},
        renames=renames,
    )


COLPALI = family_of("ColPali", (("vlm.language_model.", "vlm.language_model.model."),))
COLQWEN2 = family_of("ColQwen2")

TYPES = {
    "colpali": ModelType(COLPALI, no_cache="embeds", seen_by="vlm_config"),
    "colqwen2": ModelType(COLQWEN2, no_cache="embeds", seen_by="vlm_config"),
}
