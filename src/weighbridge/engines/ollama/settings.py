"""Settings of Ollama, named as llama.cpp's command line has them."""

from weighbridge.engines.llama_cpp.settings import Ggml
from weighbridge.settings.setting import Int, Str, Switch
from weighbridge.settings.shared import ServingSettings, SightSettings


class Ollama(ServingSettings, SightSettings):
    """Settings of Ollama."""

    images: Int = SightSettings.images.but(idle="the tag's own tower decides")
    n_gpu_layers: Int = Ggml.n_gpu_layers
    n_batch: Int = Ggml.n_batch
    parallel: Int = Ggml.parallel
    flash_attn: Str = Ggml.flash_attn
    split_mode: Str = Ggml.split_mode
    main_gpu: Int = Ggml.main_gpu.but(idle="its scheduler chooses the card")
    no_mmap: Switch = Ggml.no_mmap
    mmproj: Str = Ggml.mmproj


SETTINGS = Ollama
