"""dicom-server-config.yaml: read, checked whole, every mistake with its line at once.

References
----------
docs/reference/dicom-server-config.md lists the keys.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from clara_wf.publish.published import list_published
from clara_wf.yaml.document import Document, UnreadableError, read_document
from clara_wf.yaml.findings import Finding, Problem, errors_of
from clara_wf.yaml.shape import shaped
from dicom_adapter.config.blocks import Config
from stages.errors import SettingsError

_Named = TypeVar("_Named")


def load_config(file: Path) -> Config:
    """Read the configuration.

    Raises
    ------
    SettingsError
        If anything is wrong with it; the message has a line for each mistake.
    """
    config, findings = examine(file)
    wrong = errors_of(findings)
    if config is None or wrong:
        raise SettingsError("\n".join(map(str, wrong)))
    return config


def examine(file: Path) -> tuple[Config | None, list[Finding]]:
    """Return the configuration, if its keys and types are right, and all that is wrong with it.

    Raises
    ------
    SettingsError
        If the file cannot be read at all.
    """
    try:
        document = read_document(file)
    except UnreadableError as error:
        return None, [error.finding]
    config, problems = shaped(Config, document.content, ())
    if config is not None:
        problems = list(_contradictions(config))
    return config, _placed(document, problems)


def lint_adapter(file: Path) -> list[Finding]:
    """Return everything that is wrong with a configuration, and what it names that is not published.

    Raises
    ------
    SettingsError
        If the file cannot be read at all.
    """
    config, findings = examine(file)
    if config is not None and config.storage.workflows.is_dir():
        findings = sorted([*findings, *unpublished(config, file)])
    return findings


def unpublished(config: Config, file: Path) -> list[Finding]:
    """Return a warning for each workflow that is not published where the configuration looks for it."""
    folder = config.storage.workflows
    known = {each.workflow for each in list_published(folder)} if folder.is_dir() else set()
    problems = [
        Problem(
            path=("workflows", n, "workflow"),
            message=f"{rule.workflow} is not published in {folder}",
            advice=f"`clara-wf publish {rule.workflow} NAME {folder}` does so",
            severity="warning",
        )
        for n, rule in enumerate(config.workflows)
        if rule.workflow not in known
    ]
    return _placed(read_document(file), problems)


def _placed(document: Document, problems: Sequence[Problem]) -> list[Finding]:
    return sorted(document.finding(problem) for problem in problems)


def _contradictions(config: Config) -> Iterator[Problem]:
    scp, scu = config.dicom.scp, config.dicom.scu
    titles = [each.ae_title for each in scp.ae_titles]
    names = [each.name for each in scu.destinations]
    yield from _repeated(titles, ("dicom", "scp", "ae-titles"), "ae-title")
    yield from _repeated(names, ("dicom", "scu", "destinations"), "name")
    yield from _repeated([rule.name for rule in config.workflows], ("workflows",), "name")
    for n, rule in enumerate(config.workflows):
        if rule.clara_ae_title not in titles:
            yield _unknown(
                ("workflows", n, "clara-ae-title"), rule.clara_ae_title, titles, "AE title of ours"
            )
        for name in rule.destination_name:
            if name not in names:
                yield _unknown(("workflows", n, "destination-name"), name, names, "destination")
    yield from _incomplete(config)


def _incomplete(config: Config) -> Iterator[Problem]:
    scp = config.dicom.scp
    if scp.reject_unknown_sources and not scp.sources:
        yield Problem(
            path=("dicom", "scp", "reject-unknown-sources"),
            message="everybody is rejected, since there are no sources",
            advice="list who may call under sources, or write false",
        )
    titles = [each.ae_title for each in scp.ae_titles]
    if scp.blank_called_as and scp.blank_called_as not in titles:
        yield _unknown(("dicom", "scp", "blank-called-as"), scp.blank_called_as, titles, "AE title of ours")
    if scp.tls.enabled and not (scp.tls.certificate and scp.tls.key):
        yield Problem(
            path=("dicom", "scp", "tls"),
            message="TLS needs a certificate and a key",
            advice="name the two PEM files",
        )
    for n, each in enumerate(config.dicom.scu.destinations):
        if not each.host_ip and not each.dicomweb:
            yield Problem(
                path=("dicom", "scu", "destinations", n),
                message=f"destination {each.name!r} has no address",
                advice="add host-ip, or dicomweb for a service with a URL",
            )
    if config.http.port and config.http.port == scp.port:
        yield Problem(
            path=("dicom", "scp", "port"),
            message=f"{scp.port} is the port of http as well",
            advice="write another port",
        )
    if not config.http.on_loopback and not config.http.token_file:
        yield Problem(
            path=("http", "host"),
            message=f"{config.http.host} is not the loopback, and anybody could read the status page",
            advice="add token-file, or write 127.0.0.1",
        )


def _repeated(values: Sequence[str], path: tuple[str, ...], key: str) -> Iterator[Problem]:
    for n, value in enumerate(values):
        if value in values[:n]:
            yield Problem(path=(*path, n, key), message=f"{value!r} stands twice", advice="write it once")


def _unknown(path: tuple[str | int, ...], name: str, known: Collection[str], what: str) -> Problem:
    return Problem(
        path=path, message=f"{name!r} is no {what}", advice=f"there are: {', '.join(known) or 'none'}"
    )
