import pytest

from stages import SettingsError
from stages.memory.limits import (
    MIB,
    MemoryLimit,
    container_limit,
    host_limit,
    parse_size,
    resident_bytes,
)
from stages.runtime.processes import peak_memory_bytes

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 * GIB), ("4 GiB", 4 * GIB), ("512m", 512 * MIB), ("1.5gb", 3 * GIB // 2), ("1000", 1000)],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-4G", "0", "4 X", "4GG"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(SettingsError, match="a size of memory is such as 4G"):
        parse_size(text)


def machine(root, cgroup, files, available_kb=8_000_000):
    """Write what Linux tells of memory."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/status").write_text("RssAnon:\t 1024 kB\nRssFile:\t 9999 kB\nRssShmem:\t 1024 kB\n")
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available_kb} kB\n")
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"proc": root / "proc", "cgroups": root / "cgroup"}


def test_limit_of_control_groups_version_2_is_the_lowest_on_the_way_up(tmp_path):
    files = {"pod/memory.max": f"{2 * GIB}\n", "pod/stage/memory.max": "max\n", "memory.max": f"{9 * GIB}\n"}
    assert container_limit(**machine(tmp_path, "0::/pod/stage\n", files)) == 2 * GIB


def test_container_that_sees_its_own_group_as_the_root_finds_its_limit(tmp_path):
    assert container_limit(**machine(tmp_path, "0::/\n", {"memory.max": str(3 * GIB)})) == 3 * GIB
    elsewhere = machine(tmp_path / "b", "0::/not/seen/here\n", {"memory.max": str(GIB)})
    assert container_limit(**elsewhere) == GIB


def test_limit_of_control_groups_version_1_is_read_and_its_huge_number_is_none(tmp_path):
    cgroup = "5:cpu,memory:/docker/a\n2:cpuset:/\n0::/\n"
    files = {
        "memory/docker/a/memory.limit_in_bytes": str(GIB),
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    assert container_limit(**machine(tmp_path, cgroup, files)) == GIB
    only_root = {"memory/memory.limit_in_bytes": "9223372036854771712"}
    assert container_limit(**machine(tmp_path / "b", cgroup, only_root)) is None


def test_lowest_limit_holds_and_says_whose_it_is(tmp_path):
    here = machine(tmp_path, "0::/\n", {"memory.max": str(4 * GIB)}, available_kb=3 * 2**20)
    # 3 GiB are free and 2 MiB are held, which mapped files are not
    assert host_limit(**here) == MemoryLimit(3 * GIB + 2 * MIB, "the machine's free memory")
    assert host_limit("2G", **here) == MemoryLimit(2 * GIB, "--memory-limit")
    there = machine(tmp_path / "b", "0::/\n", {"memory.max": str(4 * GIB)})
    assert host_limit("5G", **there) == MemoryLimit(4 * GIB, "the container's limit")


def test_this_machine_tells_its_memory():
    assert 0 < resident_bytes() <= peak_memory_bytes()
    assert host_limit().size > resident_bytes()
