"""Which *Convolution Kernel* (0018,1210) is for bone or lung, by the names that scanners give them.

References
----------
Kernel names as they stand in files of Siemens (B60f, Br64, Bl57), GE (LUNG, BONEPLUS), Philips (YB, L)
and Canon (FC51).
"""

from __future__ import annotations

import re

_SHARPEST_SOFT = 49  # of the numbers of Siemens: 50 and more are for bone and lung
_SIEMENS = re.compile(r"[A-Z]([a-z]?)([0-9]{2})[a-z]?")
_SHARP = re.compile(
    r"(?i).*(lung|bone|edge|ultra|sharp|inner ear).*"
    r"|FC(3|5|8)[0-9].*"  # Canon: bone, lung, high resolution
    r"|Y[A-E]|[DEFL]"  # Philips
)


def is_sharp(kernel: str) -> bool:
    r"""Return whether a kernel is one for bone or lung; False where nothing is known of it.

    Parameters
    ----------
    kernel
        The values of the attribute, parted by a backslash.
    """
    return any(_is_sharp_name(name.strip()) for name in kernel.split("\\"))


def _is_sharp_name(name: str) -> bool:
    siemens = _SIEMENS.fullmatch(name)
    if siemens:
        return siemens[1] == "l" or int(siemens[2]) > _SHARPEST_SOFT
    return _SHARP.fullmatch(name) is not None
