"""Architectures that llama.cpp has come to know since b4905, by build; those of b4905 have no row,
nor have those since b7437, whose builds were not read.

Source: src/llama-arch.cpp of the builds that Ollama 0.6 to 0.13.5 took in (engines/ollama/rules.py
has their numbers), so that a row lies between two of them; gpt-oss: pull request 15091. No row:
granitehybrid, whose models without recurrent layers are converted to granite.
"""

from weighbridge.engines.model_classes import Known, known

KNOWS: tuple[Known, ...] = known(__file__)
