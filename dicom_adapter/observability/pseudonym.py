"""What a study is called where no identity may be: logs, metrics, the audit trail, the status page."""

from __future__ import annotations

import hashlib


def study_hash(study_uid: str) -> str:
    """Return 12 letters that stand for a study; who has its StudyInstanceUID finds them.

    ``printf %s UID | sha256sum | cut -c1-12`` gives the same.

    Parameters
    ----------
    study_uid
        Of the study.
    """
    return hashlib.sha256(study_uid.encode()).hexdigest()[:12]
