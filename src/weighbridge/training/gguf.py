"""Training of a GGUF file: transformers makes the class from its metadata and dequantizes.

    from_pretrained(..., gguf_file="model.gguf")     every tensor in the dtype the user sets;
                                                     5.23 keeps blocks if a kernel is available,
                                                     unless GgufConfig(dequantize=True) is given

The class is known if the metadata give its whole config, and used only if it has as many parameters
as the file. Others are refused: what they are trained as depends on the original. Source:
transformers 5.23 integrations/ggml.py (GGUF_CONFIG_MAPPING), modeling_gguf_pytorch_utils.py
(load_gguf_checkpoint), quantizers/auto.py (get_hf_quantizer).
"""

from math import prod

from weighbridge.base.errors import ContradictionError, UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.workload import Train

LIBRARY = "gguf"
ORIGINAL = ("general.base_model.0.repo_url", "general.source.huggingface.repository")


def unpacked(model: Model, w: Train) -> Model:
    """Return the model as the class that a GGUF file's metadata describe, dequantized; `model`
    itself if it is no GGUF file."""
    part = model.parts[0]
    if part.library != LIBRARY:
        _refuse_gguf_type(w.quantization)
        return model
    form = w.quantization or ("nf4" if w.method == "qlora" else None)
    if form is not None:
        raise ContradictionError(sentence("gguf_whole", reference=model.reference, form=form))
    from weighbridge.models.arch.gguf_classes import class_config, class_of

    metadata = part.config.get(LIBRARY, {})
    config = class_config(metadata, {t.name: t.shape for t in part.stored})
    plan = None if config is None else class_of(config)
    if config is None or plan is None or plan.parameters != _parameters(part):
        raise UnsupportedError(_refusal(model, part))
    note = sentence("gguf_dequantized", cls=plan.cls)
    class_part = replace(
        part, library="transformers", blueprint=plan, config=config, quantization=None
    )
    return replace(model, parts=(class_part,), notes=(*model.notes, note))


def _refuse_gguf_type(form: str | None) -> None:
    """Raise ContradictionError if `form` is a GGUF type: no trainer quantizes a base to one."""
    if not form:
        return
    from weighbridge.engines.format_names import is_gguf_type  # names of the catalogue, too

    if is_gguf_type(form):
        raise ContradictionError(sentence("packs_no_base", form=form))


def _parameters(part: ModelPart) -> int:
    from weighbridge.models.arch.gguf_classes import DERIVED

    tensors = (t for t in part.stored if not t.name.startswith(DERIVED))
    return sum(prod(t.shape) for t in tensors)


def _refusal(model: Model, part: ModelPart) -> str:
    metadata = part.config.get(LIBRARY, {})
    arch = metadata.get("general.architecture")
    original = next((str(metadata[key]) for key in ORIGINAL if metadata.get(key)), "")
    key = "gguf_untrained.original" if original else "gguf_untrained"
    return sentence(key, reference=model.reference, arch=arch, original=original)
