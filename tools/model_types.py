"""Write src/weighbridge/models/arch/types.json: which file of arch/families has which types.

    python -m tools.model_types            # part of `make records`
    python -m tools.model_types --check    # part of `make check`

Beside it stand two indexes that would need every file: GGUF architectures that are called otherwise
than the model type that is converted to them, and those whose files are trained, with their type.
"""

import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from weighbridge.models.arch import families
from weighbridge.models.arch.model_types import ModelType, program_facts

TARGET = Path(families.__file__).parent.parent / "types.json"


def with_types() -> Iterator[tuple[str, Mapping[str, ModelType]]]:
    """Yield each module that has TYPES, as a name below arch/families, with them."""
    for module in pkgutil.walk_packages(families.__path__, f"{families.__name__}."):
        types = getattr(import_module(module.name), "TYPES", None)
        if types:
            yield module.name.removeprefix(f"{families.__name__}."), types


def written() -> str:
    """Return what the file should be. Raises ValueError for a type that two files have."""
    modules: dict[str, str] = {}
    trained: dict[str, str] = {}
    converted = set()
    for module, types in sorted(with_types()):
        for model_type, facts in types.items():
            if model_type in modules:
                raise ValueError(f"{model_type}: in {modules[model_type]} and in {module}")
            modules[model_type] = module
            converted |= {facts.gguf} - {"", "none"}
            if as_file := program_facts("training").get(model_type, {}).get("gguf"):
                trained[as_file] = model_type
    parts = {
        "modules": modules,
        "converted": dict.fromkeys(sorted(converted), 1),
        "trained": dict(sorted(trained.items())),
    }
    return json.dumps(parts, indent=0) + "\n"


def main() -> int:
    new = written()
    if "--check" in sys.argv:
        if TARGET.read_text(encoding="utf-8") != new:
            print("arch/types.json is not as the families say: run `make records`")
            return 1
    else:
        TARGET.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
