"""From what the user typed to an inventory: choose the files, read their headers, nothing more.

The files are those that the library would load: safetensors before pickles, a plain file before
its fp16 variant, `model.safetensors` before `consolidated.safetensors`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from weighbridge import catalogue
from weighbridge.errors import BadFileError, HubError, NotFoundError, UnsupportedError
from weighbridge.formats import Plan, gguf, pipeline, safetensors, torch_file
from weighbridge.formats.adapter import adapter
from weighbridge.formats.index import Index, index_file
from weighbridge.formats.mistral_params import transformers_config
from weighbridge.formats.strict_json import json_file
from weighbridge.inventory import Inventory, Part
from weighbridge.reference import (
    CatalogueRef,
    HubRef,
    LocalRef,
    Reference,
    SizeRef,
    TimmRef,
    UrlRef,
    parse,
)
from weighbridge.sources import base
from weighbridge.sources.base import Entry, Source, read_plan, read_plans
from weighbridge.sources.opening import endpoint, open_source
from weighbridge.tensors import Tensor
