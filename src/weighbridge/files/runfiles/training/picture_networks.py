"""Arguments of sd-scripts' networks: what is beside a denoiser.

    networks.lora     conv_dim: kernels of ResNet blocks, too
    lycoris.kohya     algo, factor, conv_dim; beside all layers, unless a preset leaves them out

Sources: sd-scripts @ 48d368fa networks/lora.py (create_network); LyCORIS lycoris/kohya.py
(create_network: conv_dim is network_dim where it is not said).
"""

from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.reading import KeyReading
from weighbridge.pictures.adapting import EVERY

KNOWN = {"algo", "preset", "conv_dim", "conv_alpha", "factor", "use_tucker"}
KRONECKER, LOW_RANK = ("lokr", "loha"), ("lora", "locon")


def network(keys: KeyReading, script: str) -> None:
    """Read the training method, its rank and its factor."""
    arguments = _pairs(keys.value("network_args"))
    algorithm, factor = arguments.get("algo", "lora"), _number(arguments.get("factor"))
    if algorithm in KRONECKER:
        keys.set("method", algorithm, "network_args")
    elif arguments.keys() - KNOWN or algorithm not in LOW_RANK:
        keys.leave("network_args", "+- modules and ranks that it names are not counted")
    if factor > 1:
        keys.set("lokr_factor", factor, "network_args")
    if keys.take("network_dim", "lora_r") is None and keys.settings["method"] != "lokr":
        keys.default("lora_r", 4, sentence("own_name", framework="sd-scripts", name="network_dim"))
    rank = _number(arguments.get("conv_dim"))
    lycoris = str(keys.value("network_module") or "").startswith("lycoris")
    if lycoris and arguments.get("preset", "full") == "full" and of_unet(script):
        keys.settings["lora_targets"] = [EVERY]
        rank = rank or _number(keys.settings.get("lora_r"))
    if rank:
        keys.set("lora_conv_r", rank, "network_args")


def of_unet(script: str) -> bool:
    """Return whether a script trains a UNet."""
    return script.startswith(("sdxl", "train_")) or not script


def _number(value: object) -> int:
    text = str(value)
    return int(text) if text.isdigit() else 0


def _pairs(value: object) -> dict[str, str]:
    """Return ["algo=lokr", "factor=8"], or one text of them, as a mapping."""
    words = value if isinstance(value, list) else str(value or "").split()
    return {
        name: text.strip("\"'")
        for name, sign, text in (str(word).partition("=") for word in words)
        if sign
    }
