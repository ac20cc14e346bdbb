"""What the embedded model server says of itself while it starts: whether it is ready, and why a model is not.

References
----------
Open Inference Protocol (KServe V2), HTTP: https://github.com/kserve/open-inference-protocol.
Triton model repository extension: ``extension_model_repository.md`` of triton-inference-server/server.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_ERROR_LINE = re.compile(r"^(E\d+|\[libprotobuf ERROR) [^\]]*\] \"?(.*?)\"?$", re.MULTILINE)


def not_ready(http_url: str, models: Iterable[str], *, log: Path) -> dict[str, str]:
    """Return the models that did not load, each with the reason; loading ends before the endpoints open.

    Parameters
    ----------
    http_url, models, log
        Where the server answers HTTP, the names of the models and the server's log file.
    """
    index = {model["name"]: model for model in _ask(http_url, "POST", "/v2/repository/index")}
    return {
        name: index.get(name, {}).get("reason", "").partition("\n\nAt:\n")[0] or _reason_in(log, name)
        for name in models
        if index.get(name, {}).get("state") != "READY"
    }


def _reason_in(log: Path, model: str) -> str:
    """Return what the log says of a model that the server does not even list."""
    errors = _ERROR_LINE.findall(log.read_text(errors="replace"))
    reasons = [text for kind, text in errors if kind == "[libprotobuf ERROR" or f"'{model}'" in text]
    return "; ".join(reasons) or "it gave no reason"


def answers_as(http_url: str, name: str) -> bool:
    """Whether the server at a URL has opened its endpoints, and is the one with this name.

    Parameters
    ----------
    http_url, name
        Where the server answers HTTP and the name that the server was started with.
    """
    answer = _ask(http_url, "GET", "/v2")
    return isinstance(answer, dict) and answer.get("name") == name


def _ask(http_url: str, method: str, path: str) -> Any:
    """Return the server's JSON answer; an empty one while it does not answer."""
    connection = http.client.HTTPConnection(http_url, timeout=10)
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
