"""One JSON object a line: time, level, logger, message, and the job and study hash that it is about."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from clara_wf.report_logs import without_uids

_ABOUT = ("job", "study")


class JsonFormatter(logging.Formatter):
    """Formats records for log collectors; DICOM UIDs are shortened, whoever has put one into a message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_uids(record.getMessage()),
        }
        told |= {name: vars(record)[name] for name in _ABOUT if name in vars(record)}
        if record.exc_info:
            told["traceback"] = without_uids(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)
