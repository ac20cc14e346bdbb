"""Thirty bad minutes: ``python benchmarks/adapter_soak.py``; needs root, for a disk of its own that it fills.

Modalities send studies; strangers idle, trickle, send garbage and call under unknown names; instances of
odd character sets and shapes come from a known source; the archive is killed, and frozen; the disk fills up
and is freed; the adapter is killed (SIGKILL) every two minutes. All the while a canary sends an instance a
second and asks ``/readyz``. In the end everything acknowledged must have been kept, every result must be in
the archive, once, and nobody may have been told that there is service when there was none.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from soak.modality import (  # noqa: E402
    ROOT_UID,
    Acknowledged,
    Modality,
    ct_slice,
    kept_digests,
    names,
    store_once,
    until,
)
from soak.odd import send_odd  # noqa: E402
from soak.stage import SUFFIX  # noqa: E402
from soak.world import MINIMUM_FREE, Adapter, Archive, Disk, small_disk  # noqa: E402

_CANARY_S = 3.0
_DRAIN_S = 600.0
_STUDY_EVERY_S = 8.0


@dataclass
class Samples:
    """What the canary has seen: an instance sent, between two looks at ``/readyz``."""

    served: int = 0
    unserved: int = 0
    false_ready: list[str] = field(default_factory=list)
    false_unready: list[str] = field(default_factory=list)
    changing: int = 0
    why: Counter[str] = field(default_factory=Counter)


class Soak:
    """Everything at once."""

    def __init__(self, adapter: Adapter, archive: Archive, disk: Disk, *, modalities: int) -> None:
        self.adapter, self.archive, self.disk = adapter, archive, disk
        self.acknowledged, self.samples = Acknowledged(), Samples()
        self.lives: list[list[float]] = []
        self.events: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.unforeseen_ends = 0
        self._over = threading.Event()
        self._restarting = threading.Lock()
        self._modalities = [
            Modality(
                name,
                "CT_AI",
                adapter.port,
                address=address,
                acknowledged=self.acknowledged,
                every_s=_STUDY_EVERY_S,
            )
            for name, address in names(modalities)
        ]

    def run(
        self, *, seconds: float, kill_every_s: float, archive_every_s: float, disk_every_s: float
    ) -> None:
        """Let it all happen."""
        self._begin_life()
        strangers = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "soak/strangers.py"), str(self.adapter.port)],
            stderr=subprocess.DEVNULL,
        )
        workers = [
            threading.Thread(target=self._repeat, args=(every_s, action), daemon=True)
            for every_s, action in (
                (1.0, self._look),
                (2.0, self._weigh),
                (5.0, self._send_odd),
                (kill_every_s, self._kill),
                (archive_every_s, self._take_archive_away),
                (disk_every_s, self._fill_disk),
            )
            if every_s
        ]
        for modality in self._modalities:
            modality.start()
        for worker in workers:
            worker.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(60, max(0.1, end - time.monotonic())))
            self._tell(end)
        self._over.set()
        for worker in workers:
            worker.join()
        for modality in self._modalities:
            modality.stop()
        strangers.kill()
        strangers.wait()

    @property
    def studies(self) -> int:
        return sum(each.studies for each in self._modalities)

    @property
    def refused(self) -> int:
        return sum(each.refused for each in self._modalities)

    @property
    def broken(self) -> int:
        return sum(each.broken for each in self._modalities)

    def _repeat(self, every_s: float, action: Callable[[], None]) -> None:
        while not self._over.wait(every_s):
            action()

    def _begin_life(self) -> None:
        self.adapter.start()
        self.lives.append([])

    def _kill(self) -> None:
        with self._restarting:
            self.unforeseen_ends += self.adapter.has_ended()
            self.adapter.kill()
            self.events["adapter killed"] += 1
            self._begin_life()

    def _take_archive_away(self) -> None:
        if self.events["archive"] % 2:
            self.archive.send_signal(signal.SIGSTOP)
            self._over.wait(15)
            self.archive.send_signal(signal.SIGCONT)
        else:
            self.archive.send_signal(signal.SIGKILL)
            self._over.wait(20)
            self.archive.start()
        self.events["archive"] += 1

    def _fill_disk(self) -> None:
        self.disk.fill(MINIMUM_FREE - (8 << 20))
        self._over.wait(20)
        with suppress(OSError):
            self.disk.fill(0)
        self._over.wait(15)
        self.disk.free()
        self.events["disk filled"] += 1

    def _send_odd(self) -> None:
        for answer in send_odd(self.adapter.port, self.acknowledged):
            self.odd[answer] += 1

    def _weigh(self) -> None:
        with self._restarting, suppress(OSError, StopIteration):
            self.lives[-1].append(self.adapter.resident_mib())

    def _look(self) -> None:
        with self._restarting:  # a killed one has no service, and says nothing
            self._compare()

    def _compare(self) -> None:
        before = self.adapter.readiness()
        number = self.samples.served + self.samples.unserved + 1
        study = f"{ROOT_UID}.10.{number}"
        served = store_once(
            self.adapter.port,
            "127.0.0.10",
            "CANARY",
            "KEPT",
            ct_slice(study, 1, rows=16),
            within_s=_CANARY_S,
        )
        after = self.adapter.readiness()
        self.samples.served += served
        self.samples.unserved += not served
        if before is None or after is None or before[0] != after[0]:
            self.samples.changing += 1
            return
        if not after[0]:
            self.samples.why[after[1].lstrip("0123456789 ")] += 1
        if after[0] and not served:
            self.samples.false_ready.append(after[1])
        if served and not after[0]:
            self.samples.false_unready.append(after[1])

    def _tell(self, end: float) -> None:
        print(
            f"{max(0, end - time.monotonic()):5.0f} s left: {len(self.acknowledged.all())} acknowledged, "
            f"{len(self.archive.arrivals())} arrived, {dict(self.events)}, "
            f"{self.lives[-1][-1] if self.lives[-1] else 0:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is left in the end."""

    lost: list[str]
    corrupted: list[str]
    missing: list[str]
    doubled: int
    contradictory: int


def judge(soak: Soak) -> Verdict:
    """Compare what was acknowledged with what is there, and what arrived with what should have."""
    kept = kept_digests(soak.adapter.root / "studies")
    arrivals = soak.archive.arrivals()
    arrived = {uid for uid, _ in arrivals}
    lost, corrupted, missing = [], [], []
    for (called, _, uid), digest in soak.acknowledged.all().items():
        result = f"{uid}{SUFFIX}"
        if called == "CT_AI" and result not in arrived:
            missing.append(result)
        if uid not in kept and result not in arrived:
            lost.append(uid)
        elif uid in kept and kept[uid] != digest:
            corrupted.append(uid)
    return Verdict(
        lost=lost,
        corrupted=corrupted,
        missing=missing,
        doubled=len(arrivals) - len(arrived),
        contradictory=len(set(arrivals)) - len(arrived),
    )


def print_table(soak: Soak, verdict: Verdict, *, minutes: float, stopped_s: float) -> None:
    """Print what happened, and what came of it."""
    acknowledged, samples = soak.acknowledged.all(), soak.samples
    ends = [life[-1] for life in soak.lives if len(life) > 10]
    rows: Sequence[tuple[str, object]] = (
        ("minutes", f"{minutes:g}"),
        ("studies sent", soak.studies),
        ("instances acknowledged", len(acknowledged)),
        ("  refused, and sent again", soak.refused),
        ("  connections lost, and made again", soak.broken),
        ("odd instances, by answer", ", ".join(f"{n} {name}" for name, n in sorted(soak.odd.items()))),
        ("adapter killed", soak.events["adapter killed"]),
        ("  ended by itself", soak.unforeseen_ends),
        ("  ready again after", f"{statistics.median(soak.adapter.starts):.1f} s (median)"),
        ("archive killed or frozen", soak.events["archive"]),
        ("disk filled and freed", soak.events["disk filled"]),
        ("acknowledged and lost", len(verdict.lost)),
        ("acknowledged and changed", len(verdict.corrupted)),
        ("results missing", len(verdict.missing)),
        ("results sent again", verdict.doubled),
        ("results with two contents", verdict.contradictory),
        ("looks with service / without", f"{samples.served} / {samples.unserved}"),
        ("  ready without service", len(samples.false_ready)),
        ("  service, not ready", len(samples.false_unready)),
        ("  changing while it looked", samples.changing),
        ("memory at the end of each life", ", ".join(f"{each:.0f}" for each in ends) + " MiB"),
        ("most memory", f"{max(max(life, default=0) for life in soak.lives):.0f} MiB"),
        ("ended after SIGTERM within", f"{stopped_s:.1f} s"),
    )
    for name, value in rows:
        print(f"{name:36} {value}")
    for why, count in samples.why.most_common(5):
        print(f"  not ready, {count} times: {why}")
    for why, count in Counter(samples.false_unready).most_common(3):
        print(f"  service, though {count} times not ready: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--modalities", type=int, default=3)
    parser.add_argument("--kill-every", type=float, default=120, metavar="SECONDS", help="0: never")
    parser.add_argument("--archive-every", type=float, default=45, metavar="SECONDS", help="0: never")
    parser.add_argument("--disk-every", type=float, default=150, metavar="SECONDS", help="0: never")
    parser.add_argument("--folder", type=Path, help="where everything lies; default: TMPDIR")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    given = parser.parse_args()
    random.seed(1)
    work = Path(tempfile.mkdtemp(prefix="soak-", dir=given.folder))
    with small_disk(work, 3 << 29) as place:
        if place is None:
            raise SystemExit("a disk of its own cannot be mounted; run as root")
        archive = Archive(work)
        archive.start()
        adapter = Adapter(work, place, archive.port, modalities=given.modalities)
        soak = Soak(adapter, archive, Disk(place), modalities=given.modalities)
        soak.run(
            seconds=given.minutes * 60,
            kill_every_s=given.kill_every,
            archive_every_s=given.archive_every,
            disk_every_s=given.disk_every,
        )
        until(lambda: not judge(soak).missing, within_s=_DRAIN_S, every_s=5)
        verdict = judge(soak)
        print_table(soak, verdict, minutes=given.minutes, stopped_s=adapter.stop())
        archive.send_signal(signal.SIGKILL)
        print(f"in {work}" if given.keep else "", file=sys.stderr)
        if given.keep:
            subprocess.run(["cp", "-a", place, work / "kept"], check=False)
    if not given.keep:
        subprocess.run(["rm", "-rf", work], check=False)
    sound = not (verdict.lost or verdict.corrupted or verdict.missing or verdict.contradictory)
    sys.exit(0 if sound and not soak.samples.false_ready else 1)


if __name__ == "__main__":
    main()
