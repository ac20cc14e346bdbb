"""Who may call, by AE title and address."""

from __future__ import annotations

from dicom_adapter.config.dicom_blocks import Scp
from dicom_adapter.scp.negotiation import (
    BY_USER,
    CALLED_UNKNOWN,
    CALLING_UNKNOWN,
    PERMANENT,
    Rejection,
)


def who_may_not(config: Scp, called: str, caller: str, address: str) -> Rejection | None:
    """Return why somebody may not call; None: may.

    Parameters
    ----------
    called, caller
        AE titles; "" for a blank one.
    address
        Where the call comes from.
    """
    if called not in {each.ae_title for each in config.ae_titles}:
        return _unknown(CALLED_UNKNOWN, "called AE title not recognised")
    if not caller:
        return _unknown(CALLING_UNKNOWN, "calling AE title is blank, and there is no blank-calling-as")
    if not config.reject_unknown_sources:
        return None
    known = [each for each in config.sources if each.ae_title == caller]
    if not known:
        return _unknown(CALLING_UNKNOWN, "calling AE title not recognised")
    if any(each.host_ip in ("", address) for each in known):
        return None
    return _unknown(CALLING_UNKNOWN, "calling AE title comes from another host")


def _unknown(reason: int, words: str) -> Rejection:
    return Rejection(result=PERMANENT, source=BY_USER, reason=reason, words=words)
