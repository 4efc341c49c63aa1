"""from_pretrained without weights: the class is built from its config, and its parameters take the
memory that loading would give them. Nothing but configs is fetched.

transformers   model files are not looked up; the state dict is the model's own, without values. A
               config that neither a folder nor the Hub has comes from the built-in catalogue
diffusers      the same; of a pipeline's repository everything but weights
timm           `pretrained=True` loads nothing
torch.hub      a state dict from a URL is empty, and `load_state_dict` takes it as it is
"""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from weighbridge.models import catalogue
from weighbridge_lab.trace.patches import Notes, Patch, Patches
from weighbridge_lab.trace.patches.saving import UnreadCheckpoint

ONE_BY_ONE = "HF_DEACTIVATE_ASYNC_LOAD"  # core_model_loading.py: threads have no modes of torch
CONFIG = "config.json"
WEIGHTS = ["*.safetensors", "*.bin", "*.ckpt", "*.pt", "*.pth", "*.msgpack", "*.h5", "*.onnx*"]
NO_WEIGHTS = "weights are not loaded: models are built from their configs, and have no values"
NO_DTYPE = "{}: its config names no dtype, and no weights are here to tell: taken as float32"
FROM_CATALOGUE = "{}: its config comes from the built-in catalogue"
MISSING = "{}: {} is not on this machine, and the Hub did not give it: {}"
NO_HUB = "the Hub cannot be reached: only what is on this machine is used"
# httpx's, and those of requests in older versions of huggingface_hub
UNREACHABLE = frozenset(("ConnectError", "ConnectTimeout", "ConnectionError"))


class Pretrained:
    """The patches of each library that loads weights."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self._folder: str | None = None  # for configs of the catalogue

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def table(self) -> dict[str, Patches]:
        return {
            "transformers.modeling_utils": self.transformers,
            "transformers.utils.hub": self.files,
            "diffusers.models.modeling_utils": self.diffusers,
            "diffusers.pipelines.pipeline_utils": self.pipelines,
            "timm.models._builder": self.timm,
            "huggingface_hub.utils._http": self.hub,
        }

    def patches(self) -> Iterator[Patch]:
        """Yield the patches of torch itself: weights that were not read load as nothing."""
        load = nn.Module.load_state_dict

        def load_state_dict(module: nn.Module, state: Any, *args: Any, **kwargs: Any) -> Any:
            if not state:  # or a part that a program picked from a missing checkpoint
                return nn.modules.module._IncompatibleKeys([], [])
            return load(module, state, *args, **kwargs)

        yield Patch(nn.Module, "load_state_dict", load_state_dict)
        for owner in (torch.optim.Optimizer, torch.amp.GradScaler):
            yield Patch(owner, "load_state_dict", _unless_unread(owner.load_state_dict))
        yield Patch(FakeTensor, "__new__", _new)
        yield Patch(torch.hub, "load_state_dict_from_url", self._unread)

    def _unread(self, *_: Any, **__: Any) -> Any:
        self.notes(NO_WEIGHTS)
        return UnreadCheckpoint()

    def transformers(self, module: ModuleType) -> Iterator[Patch]:
        known: Any = module
        find, dtype_of = known._get_resolved_checkpoint_files, known._get_dtype
        load = known.PreTrainedModel._load_pretrained_model

        def files(*args: Any, download_kwargs: Any = None, **kwargs: Any) -> Any:
            """Return the files that are already here, as they may state the dtype."""
            here = {**(download_kwargs or {}), "local_files_only": True}
            try:
                return find(*args, download_kwargs=here, **kwargs)
            except OSError:
                return None, None

        def dtype(wanted: Any, files: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
            if wanted == "auto" and files is None and getattr(config, "dtype", None) is None:
                self.notes(NO_DTYPE.format(config.name_or_path or type(config).__name__))
                wanted = torch.float32
            return dtype_of(wanted, files, config, *args, **kwargs)

        def loaded(model: Any, state: Any, _: Any, settings: Any, keys: Any = None) -> Any:
            if state is None:
                self.notes(NO_WEIGHTS)
                state = like(model)
                settings = dataclasses.replace(settings, weight_mapping=None)
            with environment(ONE_BY_ONE, "1"):
                return load(model, state, None, settings, keys)

        yield Patch(module, "_get_resolved_checkpoint_files", files)
        yield Patch(module, "_get_dtype", dtype)
        yield Patch(known.PreTrainedModel, "_load_pretrained_model", staticmethod(loaded))

    def files(self, module: ModuleType) -> Iterator[Patch]:
        """Yield patches of the function with which transformers finds a repository's files."""
        find: Any = vars(module)["cached_files"]

        def cached_files(path_or_repo_id: Any, filenames: list[str], **kwargs: Any) -> Any:
            try:
                paths = find(path_or_repo_id, filenames, **kwargs)
            except OSError as error:
                config = self._config(path_or_repo_id, filenames)
                if config is None:
                    names, reason = ", ".join(filenames), str(error).partition("\n")[0]
                    raise OSError(MISSING.format(path_or_repo_id, names, reason)) from error
                return config
            return paths or self._config(path_or_repo_id, filenames)

        yield Patch(module, "cached_files", cached_files)

    def _config(self, name: Any, filenames: list[str]) -> list[str] | None:
        entry = catalogue.of_repository(str(name)) if filenames == [CONFIG] else None
        if entry is None:
            return None
        self.notes(FROM_CATALOGUE.format(name))
        self._folder = self._folder or tempfile.mkdtemp()
        path = os.path.join(self._folder, f"{entry.name}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(dict(entry.config), file)
        return [path]

    def diffusers(self, module: ModuleType) -> Iterator[Patch]:
        cls: Any = module.ModelMixin
        load = cls._load_pretrained_model.__func__

        def loaded(model_class: Any, model: Any, *_: Any, **kwargs: Any) -> Any:
            self.notes(NO_WEIGHTS)
            state = like(model)
            return load(model_class, model, state, ["no file"], "", list(state), **kwargs)

        for name in ("_fetch_index_file", "_fetch_index_file_legacy"):
            yield Patch(module, name, lambda **_: None)
        yield Patch(module, "_get_model_file", lambda *_, **__: "no file")
        yield Patch(module, "load_state_dict", lambda *_, **__: {})
        yield Patch(cls, "_load_pretrained_model", classmethod(loaded))

    def pipelines(self, module: ModuleType) -> Iterator[Patch]:
        download: Any = vars(module)["snapshot_download"]

        def without_weights(*args: Any, ignore_patterns: Any = None, **kwargs: Any) -> Any:
            ignored = (
                [ignore_patterns] if isinstance(ignore_patterns, str) else ignore_patterns or []
            )
            return download(*args, ignore_patterns=[*ignored, *WEIGHTS], **kwargs)

        yield Patch(module, "snapshot_download", without_weights)

    def hub(self, module: ModuleType) -> Iterator[Patch]:
        """Yield patches of the Hub's client: an unreachable Hub is asked once, not five times per
        file."""
        request = vars(module)["_http_backoff_base"]
        constants: Any = module.constants

        def once(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from request(*args, **{**kwargs, "retry_on_exceptions": ()})
            except Exception as error:
                if UNREACHABLE & {cls.__name__ for cls in type(error).__mro__}:
                    self.notes(NO_HUB)
                    constants.HF_HUB_OFFLINE = True
                raise

        yield Patch(constants, "HF_HUB_OFFLINE", constants.HF_HUB_OFFLINE)  # so that it is restored
        yield Patch(module, "_http_backoff_base", once)

    def timm(self, module: ModuleType) -> Iterator[Patch]:
        def load_pretrained(*_: Any, **__: Any) -> None:
            self.notes(NO_WEIGHTS)

        yield Patch(module, "load_pretrained", load_pretrained)


MAKE = FakeTensor.__new__


def _unless_unread(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loader that ignores the state of a missing checkpoint."""

    def load_state_dict(self: Any, state: Any) -> Any:
        return None if isinstance(state, UnreadCheckpoint) else load(self, state)

    return load_state_dict


def _new(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a new tensor, or parameter if given one, as accelerate calls the type of the old
    one."""
    if args and isinstance(args[0], torch.Tensor):
        return nn.Parameter(args[0], kwargs.get("requires_grad", True))
    return MAKE(cls, *args, **kwargs)


def like(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict as from a file: on the host, each tensor separate, tied ones once."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, torch.Tensor) and name not in tied
    }


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
