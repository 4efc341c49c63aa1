"""Names of models that a launch line gives as a path: from what is mounted there, or from the
folders and the file at the path's end."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from weighbridge.engines.format_names import meant
from weighbridge.engines.table import ENGINES
from weighbridge.models.catalogue import everyday
from weighbridge.models.catalogue.owners import OF_OWNERS

# Folders of models whose names are no part of a model's name
_SHELVES = """
models model data mnt opt srv root home workspace cache hub huggingface hf checkpoints weights
storage raid nvme ssd disk share shared local models-cache path lmstudio .lmstudio gguf llm llms
vllm sglang ollama awq gptq fp8 users user tmp var lib outputs output to
"""
SHELVES = frozenset(_SHELVES.split())
CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
GLUED = re.compile(r"([A-Za-z][\w-]{1,40}?)(--|__|[._])([A-Za-z][\w.-]+)")
GGUF = ".gguf"
OF_FILES = next(engine.name for engine in ENGINES.values() if engine.reads == "gguf")
PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")  # part of a split file (llama.cpp, gguf-split)
FORM = re.compile(r"(?i)[-._]((?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|BF16|F16|F32))\.gguf$")
# A file in the cache of llama.cpp: ORG_REPOSITORY_FILE (common/arg.cpp)
KEPT_AS = re.compile(r"([\w.-]+?)_([^/]+-GGUF)_([^/]+\.gguf)", re.IGNORECASE)


def model_of(named: str, mounts: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the model's name for a path in a line: from what is mounted there, or the path itself;
    "" if neither is a name. Text that is no path stays as it is."""
    text = _outside(named.rstrip("/"), mounts).rstrip("/")
    if not is_path(text):
        return "" if "$" in text else text
    cached = CACHED.search(text)
    if cached:
        file = text[cached.end() :].rpartition("/")[2]
        return f"{cached[1]}/{cached[2]}" + f"/{file}" * file.endswith(GGUF)
    parts = [part for part in re.split(r"[/\\]", text) if part not in ("", ".", "..", "~")]
    if parts and parts[-1].lower().endswith(GGUF):
        return text if _in_repository(text, parts) else _of_gguf(parts)
    return _of_path(parts)


def _outside(text: str, mounts: Mapping[str, str]) -> str:
    """Return a path as it is outside a container, by the first mount that matches."""
    for inside, outside in mounts.items():
        inside = inside.rstrip("/")
        if text == inside or text.startswith(f"{inside}/"):
            return f"{outside.rstrip('/')}{text[len(inside) :]}"
    return text


def is_path(text: str) -> bool:
    deep = text.count("/") > (0 if text.lower().endswith(GGUF) else 1)
    return text.startswith(("/", "./", "../", "~", "$")) or deep or "\\" in text or _shelved(text)


def _shelved(text: str) -> bool:
    """Return whether a text is a known model in a general folder: models/Qwen3-8B."""
    folder, slash, name = text.partition("/")
    return bool(slash) and folder.lower() in SHELVES and everyday.has(name)


def _of_path(parts: list[str]) -> str:
    """Return ORG/NAME from a path's last folders, or only the name."""
    named = [part for part in parts if "$" not in part and "{" not in part]
    if not named or "$" in parts[-1] or named[-1].lower() in SHELVES:
        return ""
    last = _unglued(named[-1])
    if "/" in last:
        return last
    above = named[-2] if len(named) > 1 else ""
    return last if _is_shelf(above) or _holds(above, last) else f"{above}/{last}"


def _holds(folder: str, name: str) -> bool:
    """Return whether the folder above a known model is not an owner known to have it."""
    meaning = everyday.meaning(name)
    if meaning is None or everyday.is_mirrored(f"{folder}/{name}"):
        return False
    return folder.lower() not in (meaning.entry.repo_id.partition("/")[0].lower(), *OF_OWNERS)


def _unglued(folder: str) -> str:
    """Return ORG/NAME for a folder named after both: Qwen--Qwen3-8B, Qwen.Qwen3-8B; other folders
    as they are."""
    glued = GLUED.fullmatch(folder)
    if glued is None or everyday.has(folder):
        return folder
    known = glued[2] == "--" or everyday.has(glued[3])
    return f"{glued[1]}/{glued[3]}" if known else folder


def _is_shelf(folder: str) -> bool:
    return not folder or folder.lower() in SHELVES or folder[0] == "." or folder[-1] == ":"


# GGUF files


def _in_repository(text: str, parts: list[str]) -> bool:
    """Return whether a text already is a file of a repository: ORG/NAME/FILE."""
    return text == "/".join(parts) and len(parts) == 3 and not any(map(_is_shelf, parts[:2]))


def _of_gguf(parts: list[str]) -> str:
    """Return a file's name: with its repository, if the folders above are one, else its own name,
    which includes the format."""
    file = PART.sub("", parts[-1])
    cached = KEPT_AS.fullmatch(file)
    if cached is not None:
        return _in(cached[1], cached[2], cached[3])
    organisation, name = ["", "", *parts][-3:-1]
    if "$" in file or "{" in file:
        return ""
    shelved = _is_shelf(organisation) or _is_shelf(name)
    if shelved or "$" in organisation + name or everyday.meaning(file):
        ours = name.lower().endswith("-gguf") and not _is_shelf(organisation)
        return _in(organisation, name, file) if ours and "$" not in organisation + name else file
    return _in(organisation, name, file)


def _in(organisation: str, name: str, file: str) -> str:
    """Return a file of a repository; by its format if the repository is for GGUF files."""
    form = FORM.search(file)
    if form is not None and name.lower().endswith("-gguf"):
        return f"{organisation}/{name}:{form[1]}"
    return f"{organisation}/{name}/{file}"


def packed(named: str) -> str:
    """Return the storage format in a model's name or path, as a setting; "" if there is none."""
    last = re.split(r"[/\\]", named)[-1]
    form = FORM.search(last) if last.lower().endswith(GGUF) else None
    if form is not None:
        return meant(re.sub(r"[-_]MTP$", "", form[1].upper()), OF_FILES)
    meaning = everyday.meaning(last)
    return meaning.quantization if meaning is not None else everyday.form_at_its_end(last)
