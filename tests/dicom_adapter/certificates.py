"""Certificates that vouch for themselves, and how a program of DCMTK is told of them."""

import shutil
import subprocess

import pytest

NAMES = ("server", "client", "stranger")


def make_certificates(folder, *names):
    """Write ``<name>.pem`` and ``<name>.key`` of each for this machine, and return the folder."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    for name in names:
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
        )
    return folder


def secured(folder, own, trusted):
    """Return options: its own certificate, if it shows one, and the one it trusts."""
    shown = ["+tls", folder / f"{own}.key", folder / f"{own}.pem"] if own else ["+tla"]
    return [*shown, "+cf", folder / f"{trusted}.pem"]
