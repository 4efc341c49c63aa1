"""Architectures that Ollama has come to know since 0.6, by release; those of 0.6 have no row, nor
have those that came with llama.cpp's own server (0.30).

Source: github.com/ollama/ollama, every tag v0.6.0 to v0.24.0: llama/llama.cpp/src/llama-arch.cpp
and model.Register of model/models/ (gpt-oss is registered as gptoss). No row: mistral3,
granitehybrid and nemotron_h_moe, whose models may also be files of llama, granite and nemotron_h.
"""

from weighbridge.engines.model_classes import Known, known

KNOWS: tuple[Known, ...] = known(__file__)
