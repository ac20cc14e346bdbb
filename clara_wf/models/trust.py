"""What of a model's folder a server would run as a program, and what leads out of the folder.

A model server runs what a model brings along: Python, libraries, pickles, configurations that name functions.
So a model from elsewhere is looked at first, as it lies there and without running it. What leads out of its
folder is refused always; what would run is told with its SHA-256, and taken only when somebody says that it
is trusted. That is recorded beside the model, and counts as long as the files are the same.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from clara_wf.models.repository import TRUSTED
from stages.errors import InputError, printable
from stages.lifecycle import locks
from stages.lifecycle.model_record import DESCRIPTION
from stages.runtime import job_files

_MOST_FILES, _DEEPEST = 10_000, 16
_LARGEST_CONFIG = 4 << 20
_MARGIN = 64 << 20
_CHUNK = 1 << 20

_LIBRARIES = (".so", ".dll", ".dylib", ".pyd")
_PROGRAMS = (".py", ".pyc", ".pyo", ".pyw", ".sh", ".whl", ".egg")
_PICKLES = (".pkl", ".pickle", ".joblib", ".ckpt", ".dill")
_TORCH = (".pt", ".pth", ".pt2", ".bin")
_BUNDLES = (".json", ".yaml", ".yml")
_NAMES_CODE = re.compile(rb"_target_|[\"':\s]\$(?!schema|ref|id|defs|comment)[A-Za-z_@(\[]")
_PICKLED = re.compile(rb"\x80[\x02-\x05]")
_PLAIN_BACKENDS = ("", "onnxruntime", "tensorrt", "openvino", "pytorch", "tensorflow")
_RUN_BY_CONFIG = ("runtime", "op_library_filename")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, kw_only=True)
class RunnableFile:
    """Something of a model that a server would run.

    Attributes
    ----------
    path
        In the model's folder.
    size
        Bytes.
    sha256
        Hexadecimal.
    why
        It would run.
    """

    path: str
    size: int
    sha256: str
    why: str

    def __str__(self) -> str:
        return f"{printable(self.path)}, {self.size} bytes, SHA-256 {self.sha256}: {self.why}"


def require_plain(folder: Path, *, room_bytes: int | None = None) -> None:
    """Look at what a model's folder consists of, without following anything.

    Parameters
    ----------
    room_bytes
        How much the repository has place for; None if it lies there already, where its files may have other
        names too.

    Raises
    ------
    InputError
        If it holds something else than files and folders and links among them, a file that has a name outside
        as well, a path in its configuration that leads elsewhere, or more than there is room for.
    """
    size = 0
    for count, path in enumerate(_entries(folder), 1):
        if count > _MOST_FILES:
            raise InputError(
                f"{printable(folder)} has more than {_MOST_FILES} files; is it a model's folder?"
            )
        size += _plain_size(path, folder, is_ours=room_bytes is None)
        if room_bytes is not None and size > room_bytes - _MARGIN:
            raise InputError(
                f"{printable(folder)} has more than {size} bytes up to {printable(path.relative_to(folder))}"
                f", and the repository has room for {room_bytes}"
            )
    _require_own_paths(folder)


def plain_file(path: Path) -> Path:
    """Return the path of a file that lies where it says, under this name alone.

    Raises
    ------
    InputError
        If it is a link, no regular file, has another name, or is not there.
    """
    try:
        _plain_size(path, path.parent, may_link=False)
    except FileNotFoundError:
        raise InputError(f"{printable(path)} is not there") from None
    return path


def copy_plain(source: Path, target: Path, folder: Path) -> None:
    """Copy a file or folder of a model; what it consists of is looked at once more.

    Parameters
    ----------
    folder
        The model's, out of which no link may lead.

    Raises
    ------
    InputError
        If something has changed since it was looked at.
    """
    _plain_size(source, folder)
    if source.is_dir():
        target.mkdir()
        for entry in sorted(source.iterdir()):
            copy_plain(entry, target / entry.name, folder)
        return
    file = job_files.open_to_read(source.resolve())
    if file is None:
        raise InputError(f"{printable(source)} has gone meanwhile")
    with file, target.open("xb") as copy:
        while chunk := file.read(_CHUNK):
            copy.write(chunk)


def code_in(folder: Path) -> list[RunnableFile]:
    """Return what a server would run of a model's folder, by path; a link counts, since it is another's file.

    Raises
    ------
    InputError
        If its configuration cannot be read.
    """
    backend, named = _run_by_config(folder)
    found = []
    for path in _entries(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink():
            why = f"a symbolic link to {printable(os.readlink(path))}"
        elif name == DESCRIPTION:
            why = backend
        elif path.name in named:
            why = f"{DESCRIPTION} names it as a library"
        else:
            why = _why_it_runs(path)
        if why:
            found.append(_code(path, name, why))
    return found


def require_trust(
    folder: Path, *, trusted: bool, print_line: Callable[[str], None], advice: str, is_ours: bool = True
) -> None:
    """Let a model through if it runs nothing, or nothing but what somebody trusts.

    Parameters
    ----------
    trusted
        Whether somebody says so now; then it is told and recorded.
    print_line
        Called with a line for each thing that is trusted.
    advice
        What to do, at the end of the message.
    is_ours
        Whether it lies in a repository of ours: then what was trusted before counts, and trust is recorded.

    Raises
    ------
    InputError
        If it would run what nobody trusts; the message names each.
    """
    code = code_in(folder)
    known = _trusted(folder) if is_ours else set()
    unknown = [each for each in code if (each.path, each.sha256) not in known]
    if unknown and not trusted:
        lines = "\n".join(f"  {each}" for each in unknown)
        raise InputError(f"{printable(folder)} would run programs of its own; {advice}\n{lines}")
    for each in unknown:
        print_line(f"trusted, and will run: {each}")
    if unknown and is_ours:
        record = {"trusted": locks.now(), "files": [asdict(each) for each in code]}
        job_files.write_whole(folder / TRUSTED, locks.as_json(record))


def _trusted(folder: Path) -> set[tuple[str, str]]:
    told = job_files.read_object(folder / TRUSTED).get("files")
    files = told if isinstance(told, list) else []
    return {(str(each.get("path")), str(each.get("sha256"))) for each in files if isinstance(each, dict)}


# The folder


def _entries(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield all below a folder but what is hidden at its top, which is not added."""
    if depth > _DEEPEST:
        raise InputError(f"{printable(folder)} lies more than {_DEEPEST} folders deep; is it a model's?")
    for path in sorted(folder.iterdir()):
        if depth == 0 and (path.name == TRUSTED or path.name.startswith(".")):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _entries(path, depth + 1)


def _plain_size(path: Path, folder: Path, *, may_link: bool = True, is_ours: bool = False) -> int:
    """Return the size of a file, 0 for a folder; refuse what is neither, or leads out of a model's folder."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        target = Path(os.path.realpath(path))
        if not may_link or not target.is_relative_to(folder.resolve()) or not target.is_file():
            raise InputError(
                f"{printable(path)} is a symbolic link to {printable(os.readlink(path))}, which is no file "
                f"of this folder; nothing outside is read: put the file itself there"
            )
        return target.lstat().st_size
    if stat.S_ISDIR(found.st_mode):
        return 0
    if not stat.S_ISREG(found.st_mode):
        job_files.is_there(path)  # which says what it is
    if found.st_nlink > 1 and not is_ours:
        raise InputError(
            f"{printable(path)} is a hard link: the file has another name as well, by which it may change; "
            f"put a copy there (cp -r --no-preserve=links)"
        )
    return found.st_size


# What runs


def _code(path: Path, name: str, why: str) -> RunnableFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return RunnableFile(path=name, size=path.stat().st_size, sha256=digest, why=why)


def _why_it_runs(path: Path) -> str:
    """Return why a server, or what loads the model, would run a file; "" if it would not."""
    suffixes, last = path.suffixes, path.suffix.lower()
    with path.open("rb") as file:
        begin = file.read(8)
        if begin.startswith(b"\x7fELF") or any(each in _LIBRARIES for each in suffixes):
            return "a library, which is loaded into the server"
        if begin.startswith(b"#!") or last in _PROGRAMS:
            return "a program, which a backend runs"
        if last in _TORCH or last in _PICKLES or _PICKLED.match(begin):
            return _why_unpickled(path, file, begin)
        if last in _BUNDLES:
            return _why_bundle(file)
        if begin.startswith(b"PK\x03\x04") and _has_entry(file, ".py", ".pyc", ".so", ".pkl"):
            return "an archive with programs or pickles in it"
    return ""


def _why_unpickled(path: Path, file: BinaryIO, begin: bytes) -> str:
    if begin.startswith(b"PK\x03\x04") and path.suffix.lower() in _TORCH:
        is_script = _has_entry(file, "/constants.pkl") and _has_entry(file, ".py")
        return "" if is_script else "a pickle of PyTorch and no TorchScript: loading it runs what it says"
    if begin.startswith(b"PK\x03\x04") or _PICKLED.match(begin) or path.suffix.lower() in _PICKLES:
        return "a pickle: loading it runs what it says"
    if path.suffix.lower() == ".pth":
        return "no TorchScript, though its name says so; Python runs the lines of such a file"
    return ""


def _has_entry(file: BinaryIO, *ends: str) -> bool:
    with suppress(zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return any(name.endswith(ends) for name in zipfile.ZipFile(file).namelist())
    return True  # nobody knows


def _why_bundle(file: BinaryIO) -> str:
    file.seek(0)
    before = b""
    while chunk := file.read(_CHUNK):
        if _NAMES_CODE.search(before + chunk):
            return "a configuration that names functions (_target_, $...), which a bundle's loader calls"
        before = chunk[-16:]
    return ""


# The configuration


def _config_of(folder: Path) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    content = job_files.read(folder / DESCRIPTION, most_bytes=_LARGEST_CONFIG, follow=True)
    try:
        return text_format.Parse((content or b"").decode("utf-8"), model_config_pb2.ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{folder / DESCRIPTION} is no configuration of Triton: {error}") from error


def _run_by_config(folder: Path) -> tuple[str, Sequence[str]]:
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


def _require_own_paths(folder: Path) -> None:
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
