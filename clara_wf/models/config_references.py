"""What a model's ``config.pbtxt`` names: files to be loaded or run, and paths that may lead elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from stages.errors import InputError, printable
from stages.lifecycle.model_record import DESCRIPTION
from stages.runtime import job_files

_LARGEST_CONFIG = 4 << 20
_PLAIN_BACKENDS = ("", "onnxruntime", "tensorrt", "openvino", "pytorch", "tensorflow")
_RUN_BY_CONFIG = ("runtime", "op_library_filename")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def _config_of(folder: Path) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    content = job_files.read(folder / DESCRIPTION, most_bytes=_LARGEST_CONFIG, follow=True)
    try:
        return text_format.Parse((content or b"").decode("utf-8"), model_config_pb2.ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{folder / DESCRIPTION} is no configuration of Triton: {error}") from error


def run_by_config(folder: Path) -> tuple[str, Sequence[str]]:
    """Return why a configuration has something run, or "", and the files that it names as libraries."""
    config = _config_of(folder)
    texts = list(_texts(config))
    named = [PurePosixPath(text).name for where, text in texts if where.rpartition(".")[2] in _RUN_BY_CONFIG]
    if any("EXECUTION_ENV_PATH" in where for where, _ in texts):
        return "parameter EXECUTION_ENV_PATH names an environment of Python, which is run", named
    if config.backend.lower() not in _PLAIN_BACKENDS:
        return f"backend {config.backend!r} runs what the model brings along", named
    if named:
        return f"it names {', '.join(map(printable, named))} to be loaded as a library", named
    return "", named


def require_own_paths(folder: Path) -> None:
    """Refuse a configuration that names something outside its folder."""
    for where, text in _texts(_config_of(folder)):
        parts = re.split(r"[\\/]", text)
        if text.startswith(("/", "\\")) or _DRIVE.match(text) or ".." in parts:
            raise InputError(
                f"{folder / DESCRIPTION}: {where} is {text!r}, which leads out of the model's folder; name a "
                f"file of the folder"
            )


def _texts(message: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a configuration with its place."""
    for field, value in message.ListFields():
        place = f"{where}.{field.name}".lstrip(".")
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in value:
                yield f"{place} key", str(key)
                if isinstance(value[key], str):
                    yield f"{place}.{key}", value[key]
                elif hasattr(value[key], "ListFields"):
                    yield from _texts(value[key], f"{place}.{key}")
            continue
        for each in value if field.is_repeated else [value]:
            if isinstance(each, str):
                yield place, each
            elif hasattr(each, "ListFields"):
                yield from _texts(each, place)
