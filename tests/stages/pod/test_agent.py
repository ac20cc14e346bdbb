"""The carrier as it runs in a Pod: real processes that talk through pipes."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from stages import InputError, OutputError, SettingsError
from stages.pod.agent import make_ready
from stages.pod.messages import (
    HELLO,
    place_in,
    read_content,
    read_header,
    require_protocol,
    write_file,
    write_message,
)
from stages.pod.processes import processes, send_signal
from tests.stages.conftest import ALWAYS

CARRY = [sys.executable, "-m", "stages", "carry"]


class Pod:
    """A payload, and the containers' processes."""

    def __init__(self, root):
        self.root, self.payload, self.signs = root, root / "payload", root / "signs"
        for name in ("locks", "logs", "a/output", "publish/a"):
            (self.payload / name).mkdir(parents=True)
        self.started = []

    def start(self, what, *options, container="carrier"):
        command = [*CARRY, what, str(self.root), "--signs", str(self.signs), *options]
        return self.run(command, container)

    def run(self, command, container):
        process = subprocess.Popen(
            command,
            env={**os.environ, **ALWAYS, "CLARA_CONTAINER": container},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def end(self):
        for process in self.started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                with suppress(BrokenPipeError):
                    stream.close()


@pytest.fixture
def pod(tmp_path):
    pod = Pod(tmp_path)
    yield pod
    pod.end()


class Follower:
    """`follow`, and what it has told."""

    def __init__(self, process):
        self.process, self.told = process, []
        self.order(**HELLO)
        assert read_header(process.stdout.read) == HELLO

    def order(self, **order):
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def until(self, key):
        """Return the next message with a key, and its content."""
        while True:
            header = read_header(self.process.stdout.read)
            assert header is not None, self.process.stderr.read()
            content = b"".join(read_content(self.process.stdout.read, header))
            self.told.append({**header, "content": content} if "size" in header else header)
            if key in header:
                return self.told[-1]

    def rest(self):
        """Return everything told up to now, but for signs of life."""
        self.order(sync=7)
        self.until("synced")
        return [each for each in self.told if "beat" not in each and "synced" not in each]


@pytest.fixture
def follower(pod):
    return Follower(pod.start("follow", "--stage", "a"))


# Messages


def test_a_file_arrives_as_it_was_sent(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 2000)
    stream = io.BytesIO()
    write_file(stream.write, {"path": "x"}, tmp_path / "file")
    write_message(stream.write, {"end": True})
    stream.seek(0)
    header = read_header(stream.read)
    assert header == {"path": "x", "size": 512_000}
    assert b"".join(read_content(stream.read, header)) == (tmp_path / "file").read_bytes()
    assert read_header(stream.read) == {"end": True}
    assert read_header(stream.read) is None


@pytest.mark.parametrize("noise", [b"OCI runtime exec failed", b"\0\0\0\4nope", b"\0\0\0\2[]"])
def test_anything_else_on_the_stream_is_told(noise):
    with pytest.raises(InputError, match="expected a message"):
        read_header(io.BytesIO(noise).read)


def test_a_stream_that_breaks_off_is_told():
    stream = io.BytesIO(b"only this")
    with pytest.raises(InputError, match="1 bytes too early"):
        list(read_content(lambda size: stream.read(9) and b"123456789", {"size": 10})) and stream.read()
    with pytest.raises(InputError, match="10 bytes too early"):
        list(read_content(lambda size: b"", {"size": 10}))


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a//x", "a/./x", "a\\x", "a\0x", ".."])
def test_a_name_never_leads_out_of_its_folder(tmp_path, name):
    with pytest.raises(InputError, match="leads out of the folder"):
        place_in(tmp_path, name)


@pytest.mark.parametrize(
    ("found", "said"),
    [({"protocol": 2}, "version 2"), ({"beat": 1}, "an unknown version")],
)
def test_another_version_of_the_protocol_is_refused(found, said):
    with pytest.raises(
        SettingsError, match=f"^the carrier speaks {said} of the Pod's protocol, this program "
    ):
        require_protocol(found, of="the carrier")


def test_an_engine_of_another_version_sends_nothing_into_the_pod(pod):
    code, answer, errors = put(pod, ("payload/a/input/x", b"1"), hello={"protocol": 2})
    assert (code, answer) == (2, None)
    assert "the engine speaks version 2 of the Pod's protocol" in errors
    assert not (pod.payload / "a/input/x").exists()


@pytest.mark.parametrize("first", [{"protocol": 2}, {"sync": 1}])
def test_an_engine_of_another_version_is_told_nothing(pod, first):
    process = pod.start("follow", "--stage", "a")
    process.stdin.write(json.dumps(first).encode() + b"\n")
    process.stdin.flush()
    assert process.wait(10) == 2
    assert b"of the Pod's protocol, this program version 1" in process.stderr.read()


# Into the Pod


def put(pod, *files, end=True, hello=HELLO):
    process = pod.start("put", container="receiver")
    stream = io.BytesIO()
    write_message(stream.write, hello)
    for name, content in files:
        (pod.root / "one").write_bytes(content)
        write_file(stream.write, {"path": name}, pod.root / "one")
    if end:
        write_message(stream.write, {"end": True})
    out, errors = process.communicate(stream.getvalue())
    answer = io.BytesIO(out)
    assert read_header(answer.read) == HELLO
    return process.returncode, read_header(answer.read), errors.decode()


def test_receive_ends_when_put_has_brought_everything(pod):
    receiver = pod.start("receive", "--lease", "20", container="receiver")
    assert put(pod, ("payload/a/input/x", b"1"), ("models/m/config.pbtxt", b"2"))[:2] == (0, {"received": 2})
    assert receiver.wait(10) == 0
    assert (pod.payload / "a/input/x").read_bytes() == b"1"
    assert (pod.root / "models/m/config.pbtxt").read_bytes() == b"2"


def test_receive_does_not_wait_for_ever(pod):
    receiver = pod.start("receive", "--lease", "0.3", container="receiver")
    assert receiver.wait(10) == 4
    assert b"nobody has sent the payload for 0.3 s" in receiver.stderr.read()


def test_a_file_that_takes_long_is_a_sign_of_life_while_it_comes(pod):
    process = pod.start("put", container="receiver")
    write_message(process.stdin.write, HELLO)
    write_message(process.stdin.write, {"path": "payload/a/input/x", "size": 1 << 40})
    signs, end = set(), time.monotonic() + 20
    while len(signs) < 3:
        assert time.monotonic() < end, signs
        process.stdin.write(bytes(1 << 18))
        process.stdin.flush()
        with suppress(OSError):
            signs.add((pod.signs / "alive").read_text())


def test_a_payload_that_breaks_off_is_not_taken_for_complete(pod):
    code, answer, errors = put(pod, ("payload/a/input/x", b"1"), end=False)
    assert (code, answer) == (3, None)
    assert "the payload broke off" in errors
    assert not (pod.signs / "received").exists()


def test_put_writes_nowhere_else(pod):
    code, _, errors = put(pod, ("payload/../../x", b"1"))
    assert code == 3
    assert "leads out of the folder" in errors


# Out of the Pod


def test_a_result_is_told_before_its_lock_and_the_log_before_both(pod, follower):
    follower.until("beat")
    (pod.payload / "logs/a.log").write_text("one\n")
    follower.until("append")
    (pod.payload / "a/output/deep").mkdir()
    (pod.payload / "a/output/deep/x").write_text("result")
    (pod.payload / "publish/a/picture").write_text("p")
    with (pod.payload / "logs/a.log").open("a") as log:
        log.write("two\n")
    (pod.payload / "locks/a.lock").write_text("{}")
    told = [
        (each.get("append") or each.get("clear") or each["file"], each.get("content"))
        for each in follower.rest()
    ]
    assert told == [
        ("logs/a.log", b"one\n"),
        ("logs/a.log", b"two\n"),
        ("publish/a", None),
        ("publish/a/picture", b"p"),
        ("a/output", None),
        ("a/output/deep/x", b"result"),
        ("locks/a.lock", b"{}"),
    ]


def test_a_failure_brings_no_result(pod, follower):
    (pod.payload / "a/output/half").write_text("x")
    (pod.payload / "locks/a.failed").write_text("{}")
    assert [each.get("file") for each in follower.rest()] == [None, "locks/a.failed"]


def test_a_heartbeat_is_told_as_it_changes_and_when_it_is_gone(pod, follower):
    beat = pod.payload / "locks/a.running"
    beat.write_text("1")
    assert follower.until("file")["content"] == b"1"
    beat.write_text("22")
    assert follower.until("file")["content"] == b"22"
    beat.unlink()
    assert follower.until("gone") == {"gone": "locks/a.running"}


def test_what_the_engine_has_is_not_told_again(pod):
    (pod.payload / "a/output/x").write_text("result")
    (pod.payload / "locks/a.lock").write_text("{}")
    assert Follower(pod.start("follow", "--stage", "a", "--have", "a")).rest() == []


def test_links_out_of_a_result_are_not_followed(pod, follower):
    (pod.root / "secret").write_text("s")
    (pod.payload / "a/output/link").symlink_to(pod.root / "secret")
    (pod.payload / "locks/a.lock").write_text("{}")
    assert [each.get("file") for each in follower.rest()][-1:] == ["locks/a.lock"]
    assert not any(each.get("content") == b"s" for each in follower.told)


@pytest.mark.parametrize("name", ["locks/a.failed", "locks/a.running", "logs/a.log"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("../../secret")])
def test_what_is_no_file_is_neither_read_nor_waited_for(pod, follower, name, make):
    (pod.root / "secret").write_text("s" * 99)
    make(pod.payload / name)
    (pod.payload / "locks/a.lock").write_text("{}")
    assert [each.get("file") for each in follower.rest()][-1:] == ["locks/a.lock"]
    assert not any(b"sss" in each.get("content", b"") for each in follower.told)


def test_follow_ends_with_the_one_it_tells(pod, follower):
    follower.until("beat")
    follower.process.stdin.close()
    assert follower.process.wait(5) == 1
    assert not (pod.signs / "done").exists()


def test_memory_of_each_container_is_told(pod, follower):
    stage = pod.run([sys.executable, "-c", "x = bytearray(50_000_000); print(1, flush=True); input()"], "a")
    stage.stdout.readline()
    follower.until("beat")
    assert 50_000_000 < follower.until("beat")["memory"]["a"] < 150_000_000


# The end


def test_serve_ends_when_the_engine_has_had_everything(pod, follower):
    server = pod.start("serve", "--lease", "20")
    follower.until("beat")
    follower.order(done=True)
    assert follower.process.wait(5) == 0
    assert server.wait(5) == 0


def in_own_pid_namespace():
    """Tell whether processes of a new PID namespace can be made here, as the containers of a Pod have one."""
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True)
    return done.returncode == 0


LONELY = """
import os, subprocess, sys, time
root = sys.argv[1]
environ = {**os.environ, "CLARA_CONTAINER": "a"}
stage = subprocess.Popen(["sleep", "60"], env=environ)
other = subprocess.Popen(["sleep", "60"])
carry = [sys.executable, "-m", "stages", "carry", "serve", root, "--signs", root + "/signs", "--lease", "0.5"]
code = subprocess.run(carry, env={**os.environ, "CLARA_CONTAINER": "carrier"}).returncode
print(code, stage.wait(5), other.poll())
other.kill(); other.wait()
"""


@pytest.mark.skipif(not in_own_pid_namespace(), reason="no right to make a PID namespace")
@pytest.mark.slow
def test_stages_whose_results_nobody_fetches_are_ended_and_nothing_else_is(pod):
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", LONELY, str(pod.root)],
        env={**os.environ, **ALWAYS},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["4", "-9", "None"]
    assert "nobody has fetched the results for 0.5 s" in done.stderr


def test_a_signal_reaches_the_processes_of_one_container(pod):
    a, b = (pod.run(["sleep", "60"], name) for name in ("test-a", "test-b"))
    end = time.monotonic() + 5
    while {p.container for p in processes()} & {"test-a", "test-b"} != {"test-a", "test-b"}:
        assert time.monotonic() < end
    assert send_signal("test-a", signal.SIGKILL) == 1
    assert a.wait(5) == -signal.SIGKILL
    assert b.poll() is None
    assert send_signal("test-b", signal.SIGTERM) == 0  # its parent is a process of this machine


# Shared storage


def test_folders_are_made_ready_and_earlier_failures_cleared(pod):
    (pod.payload / "a/input").mkdir()
    for name in ("a.failed", "a.running", "kept.lock", "other.failed"):
        (pod.payload / "locks" / name).touch()
    make_ready(pod.payload, "a/input", ["a", "b"])
    assert (pod.payload / "b/output").is_dir()
    assert (pod.payload / "publish/b").is_dir()
    assert sorted(path.name for path in (pod.payload / "locks").iterdir()) == ["kept.lock", "other.failed"]


def test_a_job_without_input_is_refused(pod):
    with pytest.raises(InputError, match="there is no folder a/input in its payload"):
        make_ready(pod.payload, "a/input", ["a"])


def test_a_folder_that_cannot_be_made_is_named(pod):
    (pod.payload / "a/input").mkdir()
    (pod.payload / "b").touch()
    with pytest.raises(OutputError, match="cannot make b/output in the payload"):
        make_ready(pod.payload, "a/input", ["b"])
