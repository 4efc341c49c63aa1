"""Pipelines by the names that programs which train them have for them, and for their scripts.

Sources: sd-scripts @ 48d368fa, musubi-tuner src/musubi_tuner/networks, diffusers 0.42 examples/,
SimpleTuner @ 2026-08-22 simpletuner/examples/.
"""

from collections.abc import Mapping

from weighbridge.base.parsed import text_beside
from weighbridge.files.runfiles.tables import table

# beginning of a script's name -> its pipeline, for weights in a file
PIPELINES = table(text_beside(__file__, "kohya.txt")).names["script"]
# The same of diffusers' scripts, by the end of their names; others train what they are told
EXAMPLES = table(text_beside(__file__, "diffusers_scripts.txt")).names["script"]
# Modules of a network that one script alone takes, with its program; sd-scripts' are its own where
# it has one of that name
NETWORKS: Mapping[str, tuple[str, str]] = {
    "networks.lora_flux": ("kohya", "flux_train_network"),
    "networks.lora_sd3": ("kohya", "sd3_train_network"),
    "networks.lora_lumina": ("kohya", "lumina_train_network"),
    "networks.lora_wan": ("musubi", "wan_train_network"),
    "networks.lora_qwen_image": ("musubi", "qwen_image_train_network"),
    "networks.lora_zimage": ("musubi", "zimage_train_network"),
    "networks.lora_flux_2": ("musubi", "flux_2_train_network"),
    "networks.lora_hv_1_5": ("musubi", "hv_1_5_train_network"),
}
WAN = {"t2v-14B": "wan2.1-t2v-14b", "t2v-1.3B": "wan2.1-t2v-1.3b", "t2v-A14B": "wan2.2-t2v-a14b"}
_FAMILIES = """
flux - flux.1-dev
flux dev flux.1-dev
flux schnell flux.1-schnell
sd1x - sd-1.5
sd2x - sd-2.1
sdxl - sdxl
sd3 - sd3.5-medium
sd3 medium sd3.5-medium
sd3 large sd3.5-large
qwen_image - qwen-image
qwen_image v1.0 qwen-image
z_image - z-image
chroma - chroma
auraflow - auraflow
lumina2 - lumina2
hidream - hidream
pixart_sigma - pixart-sigma
ltxvideo - ltx-video
wan t2v-480p-1.3b-2.1 wan2.1-t2v-1.3b
wan t2v-480p-14b-2.1 wan2.1-t2v-14b
"""
FAMILIES: Mapping[tuple[str, str], str] = {  # SimpleTuner's model_family and model_flavour
    (family, flavour.strip("-")): name
    for family, flavour, name in map(str.split, _FAMILIES.strip().splitlines())
}
