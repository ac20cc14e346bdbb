"""The configuration while the adapter runs: read again on demand, unless it has a mistake."""

from __future__ import annotations

import logging
from pathlib import Path

from dicom_adapter.config.blocks import Config, Http
from dicom_adapter.config.load import load_config
from dicom_adapter.delivery.senders import require_readable
from dicom_adapter.scp.tls import tls_context
from stages.errors import SettingsError, StageError

logger = logging.getLogger(__name__)

_FIXED = ("storage", "http")
_FIXED_SCP = ("port", "host")


class LiveConfig:
    """The configuration as it is now; call it for that.

    Raises
    ------
    SettingsError
        If the file has a mistake.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.config = load_config(file)

    def __call__(self) -> Config:
        """Return the configuration as it is now."""
        return self.config

    def reload(self) -> None:
        """Take what the file says now, but for what only a restart changes."""
        try:
            new = load_config(self._file)
            if new.dicom.scp.tls.enabled:
                tls_context(new.dicom.scp.tls)
            http_token(new.http)
            for destination in new.dicom.scu.destinations:
                require_readable(destination)
        except StageError as error:
            for line in str(error).splitlines():
                logger.error("the configuration stays as it was: %s", line)
            return
        old = self.config
        scp = new.dicom.scp.model_copy(update={name: getattr(old.dicom.scp, name) for name in _FIXED_SCP})
        dicom = new.dicom.model_copy(update={"scp": scp})
        kept = {"dicom": dicom, **{name: getattr(old, name) for name in _FIXED}}
        self.config = new.model_copy(update=kept)
        if self.config != new:
            logger.warning("storage, http, and where we listen change at the next start")
        logger.info("the configuration was read again")


def http_token(http: Http) -> str | None:
    """Return the token that callers of the status page show; None if none is configured.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    if not http.token_file:
        return None
    if Path(http.token_file).exists() and not Path(http.token_file).is_file():
        raise SettingsError(f"the token for the status page cannot be read: {http.token_file} is no file")
    try:
        token = Path(http.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"the token for the status page cannot be read: {http.token_file}: {why}"
        ) from error
    if not token:
        raise SettingsError(f"{http.token_file} is empty; write a token into it")
    return token
