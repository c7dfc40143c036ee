"""Files that the node keeps, and those that the kernel and conmon write, with anything in them: a value, nothing with a reason, or our own error."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.api import (
    ContainerSpec,
    FinalReading,
    Limits,
    Port,
    State,
    TenantLimits,
    TenantTotal,
    VolumeMount,
    VolumeSpec,
)
from runtime.api.status import Counters
from runtime.engines.native import passwd
from runtime.engines.native.ceilings import Ceilings
from runtime.engines.native.records import Record, Records, encode_record, encode_spec
from runtime.engines.native.totals import NativeTotals
from runtime.errors import EngineFault, InvalidSpec
from runtime.home import Home
from runtime.image.leases import Leases
from runtime.image.names import Names
from runtime.kernel import cgroup
from runtime.storage.volumes import VolumeStore
from runtime.telemetry import interfaces, log
from runtime.telemetry.interfaces import Wiring
from tests.unit.fuzzing import broken, fuzzed

SPEC = ContainerSpec(
    "cfuzz",
    "tenant1",
    "web",
    "sha256:" + "0" * 64,
    command=("a",),
    ports=(Port(80),),
    volumes=(VolumeMount("v", "/v"),),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", "tfuzz", "10.1.0.0/16", 0x50000000)


@fuzzed(60)
@given(spec=broken(encode_spec(SPEC)), status=broken(encode_record(Record(State.EXITED, 1.0, ports=(Port(80),)))))
def test_a_containers_files(home: Home, spec: bytes, status: bytes) -> None:
    folder = home.container(SPEC.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_bytes(spec)
    (folder / "status.json").write_bytes(status)
    records = Records(home)
    for read in (records.spec, records.record, records.both):
        with contextlib.suppress(EngineFault):
            read(SPEC.id)
    assert len(list(records.readable())) <= 1


@fuzzed(60)
@given(
    content=broken(
        json.dumps(
            asdict(FinalReading("cfuzz", "tenant1", 1, "b", 1, 1.0, 2.0, Limits(1, 1, 1), Counters(1.0, 1)))
        ).encode()
    )
)
def test_a_damaged_final_reading_holds_up_no_other(home: Home, content: bytes) -> None:
    home.final.mkdir(parents=True, exist_ok=True)
    records = Records(home)
    good = FinalReading("cgood", "tenant1", 1, "b", 1, 1.0, 2.0, Limits(1, 1, 1), Counters(1.0, 1))
    records.store_final(good)
    (home.final / "cfuzz-1-1000.json").write_bytes(content)
    assert good in records.finals(None)


@fuzzed(30)
@given(content=broken(json.dumps(asdict(TenantLimits(cpu_millis=100))).encode()))
def test_a_tenants_ceilings(home: Home, content: bytes) -> None:
    ceilings = Ceilings(home)
    ceilings.folder.mkdir(parents=True, exist_ok=True)
    (ceilings.folder / "tenant1.json").write_bytes(content)
    with contextlib.suppress(EngineFault):
        ceilings.of("tenant1")


@fuzzed(60)
@given(
    content=broken(json.dumps({"spec": asdict(VolumeSpec("tenant1", "v")), "created_at": 1.0, "fresh": True}).encode())
)
def test_a_volumes_record(home: Home, content: bytes) -> None:
    store = VolumeStore(home)
    store.folder("tenant1", "v").mkdir(parents=True, exist_ok=True)
    (store.folder("tenant1", "v") / "volume.json").write_bytes(content)
    with contextlib.suppress(EngineFault):
        store.read("tenant1", "v")


@fuzzed(60)
@given(content=broken(json.dumps(asdict(Wiring(("sw1",), 1, 2, 3))).encode()))
def test_a_containers_interfaces(home: Home, content: bytes) -> None:
    home.container("cfuzz").mkdir(parents=True, exist_ok=True)
    (home.container("cfuzz") / "interfaces.json").write_bytes(content)
    with contextlib.suppress(EngineFault):
        found = interfaces.load(home, "cfuzz")
        assert found is not None
        assert type(found.rx_bytes + found.tx_bytes) is int


@fuzzed(60)
@given(
    content=broken(
        json.dumps({"purpose": "pull", "pid": 1, "started": 1, "boot": "b", "digests": ["sha256:a"]}).encode()
    )
)
def test_a_damaged_lease_holds_nothing_and_goes(home: Home, content: bytes) -> None:
    home.images.mkdir(parents=True, exist_ok=True)
    leases = Leases(home)
    with leases.lease("build") as own:
        own.hold(["sha256:own"])
        file = home.images / "leases" / "1.aa.json"
        file.write_bytes(content)
        assert "sha256:own" in leases.digests()
        assert all(isinstance(one, str) for one in leases.digests())
        leases.sweep(abandoned=True)
        assert not file.exists()
        assert leases.digests() == {"sha256:own"}


@fuzzed(60)
@given(content=broken(b'{"a:1": "sha256:a"}'))
def test_names_of_images(home: Home, content: bytes) -> None:
    home.images.mkdir(parents=True, exist_ok=True)
    (home.images / "references.json").write_bytes(content)
    with contextlib.suppress(EngineFault):
        assert all(isinstance(word, str) for row in Names(home).table().items() for word in row)


@fuzzed(40)
@given(content=broken(json.dumps(asdict(TenantTotal("tenant1", "b", 1, 1.0, 1, 1))).encode()))
def test_a_damaged_total_holds_up_no_other(home: Home, content: bytes) -> None:
    good = TenantTotal("tenant2", "b", 1, 1.0, 1, 1)
    folder = home.state / "totals"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tenant2-b-1.json").write_text(json.dumps(asdict(good)))
    (folder / "tenant1-b-1.json").write_bytes(content)
    assert good in NativeTotals(home).last()


def test_a_damaged_file_is_told_by_its_name(home: Home) -> None:
    ceilings = Ceilings(home)
    ceilings.folder.mkdir(parents=True)
    (ceilings.folder / "tenant1.json").write_bytes(b"{")
    with pytest.raises(EngineFault, match=r"damaged: tenant1\.json") as caught:
        ceilings.of("tenant1")
    assert caught.value.hint


# ------------------------------------------------------------------------------------------- users of an image

ACCOUNTS = st.binary(max_size=120) | st.lists(
    st.tuples(
        st.sampled_from(["root", "www", "", "1000", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000, "-1", "65536"]),
        st.text(max_size=6),
    ),
    max_size=4,
).map(lambda rows: "\n".join(f"{name}:x:{name}:{name}:{rest}:/h:/s" for name, rest in rows).encode(errors="replace"))


@fuzzed(60)
@given(
    users=ACCOUNTS,
    groups=ACCOUNTS,
    user=st.sampled_from(["", "www", "0", "1000:1000", "root:www", "9" * 5000, "1000:" + "9" * 5000, ":"])
    | st.text(max_size=10),
)
@example(users=b"", groups=b"", user="9" * 5000)
def test_passwd_and_group(tmp_path: Path, users: bytes, groups: bytes, user: str) -> None:
    etc = tmp_path / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_bytes(users)
    (etc / "group").write_bytes(groups)
    passwd.names(tmp_path)
    with contextlib.suppress(InvalidSpec):
        found = passwd.resolve(tmp_path, user)
        assert min(found.uid, found.gid, *found.groups) >= 0
        assert max(found.uid, found.gid, *found.groups, 0) < 65536


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "no etc", "etc is a file"])
def test_what_is_no_file_of_accounts_is_none(tmp_path: Path, kind: str) -> None:

    etc = tmp_path / "etc"
    if kind == "etc is a file":
        etc.write_bytes(b"")
    elif kind != "no etc":
        etc.mkdir()
    if kind == "folder":
        (etc / "passwd").mkdir()
    elif kind == "pipe":
        os.mkfifo(etc / "passwd")
    elif kind == "loop":
        (etc / "passwd").symlink_to("passwd")
    assert passwd.resolve(tmp_path, "5:6") == passwd.Identity(5, 6)


# ------------------------------------------------------------------------------------------- logs

LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(
            st.sampled_from(["2026-01-01T00:00:00.000000001+00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "x", ""]),
            st.sampled_from(["stdout", "stderr", "stdin"]), st.sampled_from(["F", "P", "", "FP", "Q"]), st.text(max_size=10),
        ).map(lambda words: " ".join(words).encode(errors="replace")),
    ),
    max_size=8,
)  # fmt: skip


@fuzzed(80)
@given(
    lines=LINES,
    cut=st.integers(0, 400),
    last=st.none() | st.integers(-2, 12),
    since=st.none() | st.floats(allow_nan=False),
    until=st.none() | st.floats(allow_nan=False),
)
def test_a_log_of_anything_is_read_to_its_end(
    tmp_path: Path, lines: list[bytes], cut: int, last: int | None, since: float | None, until: float | None
) -> None:
    file = tmp_path / "ctr.log"
    content = b"\n".join(lines)[: cut or None]
    file.write_bytes(content)
    found = list(
        log.read(file, wanted=log.Wanted(last=last, since=since, until=until), follow=False, ended=lambda: True)
    )
    assert len(found) <= content.count(b"\n") + 1
    if last is not None:
        assert len(found) <= max(0, last)
    assert all(line.stream in {"stdout", "stderr"} for line in found)


# ------------------------------------------------------------------------------------------- counters

HONEST = {
    "cpu.stat": b"usage_usec 1234\nuser_usec 1000\nsystem_usec 234\nnr_periods 0\nnr_throttled 0\nthrottled_usec 7\n",
    "memory.current": b"4096\n",
    "memory.stat": b"anon 1\nfile 2\ninactive_file 1024\n",
    "memory.events": b"low 0\nhigh 0\nmax 0\noom 0\noom_kill 3\noom_group_kill 0\n",
    "pids.current": b"5\n",
    "io.stat": b"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n",
}
FILE = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(list(HONEST.values())).flatmap(lambda content: st.integers(0, len(content)).map(lambda at: content[:at])),
    st.sampled_from([b"", b"usage_usec \n", b"usage_usec -5\n", b"usage_usec 1e9\n", b"8:0 rbytes=x wbytes=\n", b"8:0\n", b"-7\n", b"max\n", "\N{ARABIC-INDIC DIGIT THREE}\n".encode(), b"1_000\n", b"+5\n", b"9" * 5000]),
)  # fmt: skip


UNREMEMBERED = cgroup._hierarchies.__wrapped__
"""Else later tests of this process would have the hierarchies of one here."""


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup of version 2 that is only files."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "_hierarchies", UNREMEMBERED)
    monkeypatch.setattr(cgroup, "version", lambda: 2)
    monkeypatch.setattr(cgroup, "enable_block_accounting", lambda: True)
    folder = tmp_path / "group"
    folder.mkdir()
    (folder / "cgroup.procs").touch()
    return folder


def reading(folder: Path) -> Counters:
    reader = cgroup.Reader("/group")
    try:
        return reader.read()
    finally:
        reader.close()


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in {**HONEST, **files}.items():
        (folder / name).write_bytes(content)


@fuzzed(80)
@given(files=st.dictionaries(st.sampled_from(sorted(HONEST)), FILE, min_size=1))
def test_counters_are_what_the_kernel_says_or_nothing(hierarchy: Path, files: dict[str, bytes]) -> None:
    put(hierarchy, files)
    found = reading(hierarchy)
    for name in (
        "cpu_ns",
        "memory_bytes",
        "working_set_bytes",
        "pids",
        "throttled_ns",
        "oom_kills",
        "block_read_bytes",
        "block_write_bytes",
    ):
        value = getattr(found, name)
        assert value is None or (type(value) is int and 0 <= value < 2**64 * 1000), name
    assert cgroup.Cgroup("/group").oom_kills() in {None, found.oom_kills}
    assert cgroup.Cgroup("/group").cpu_ns() in {None, found.cpu_ns}


def test_honest_counters_are_read(hierarchy: Path) -> None:
    put(hierarchy, {})
    found = reading(hierarchy)
    assert (found.cpu_ns, found.throttled_ns, found.oom_kills, found.pids) == (1_234_000, 7000, 3, 5)
    assert (found.memory_bytes, found.working_set_bytes) == (4096, 3072)
    assert (found.block_read_bytes, found.block_write_bytes) == (11, 22)


def test_many_disks_are_all_counted(hierarchy: Path) -> None:
    rows = b"".join(
        b"253:%d rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n" % number for number in range(1000)
    )
    put(hierarchy, {"io.stat": rows})
    found = reading(hierarchy)
    assert (found.block_read_bytes, found.block_write_bytes) == (4096 * 1000, 8192 * 1000)


@pytest.mark.parametrize("content", [b"usage_usec 12", b"usage_usec 1234\nuser_usec 1000\nsystem_usec 2"])
def test_a_number_that_is_cut_is_none(hierarchy: Path, content: bytes) -> None:
    put(hierarchy, {"cpu.stat": content})
    assert reading(hierarchy).cpu_ns == (1_234_000 if b"\n" in content else None)


V1 = {
    "cpuacct.usage": b"1234\n", "memory.usage_in_bytes": b"4096\n", "memory.stat": b"cache 1\ntotal_inactive_file 1024\n",
    "memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "pids.current": b"5\n",
    "cpu.stat": b"nr_periods 0\nnr_throttled 0\nthrottled_time 7\n",
    "blkio.throttle.io_service_bytes_recursive": b"8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
}  # fmt: skip
FOLDERS = {"cpuacct": ("cpuacct.usage",), "memory": ("memory.usage_in_bytes", "memory.stat", "memory.oom_control"), "pids": ("pids.current",), "cpu": ("cpu.stat",),
           "blkio": ("blkio.throttle.io_service_bytes_recursive",)}  # fmt: skip


@fuzzed(60)
@given(files=st.dictionaries(st.sampled_from(sorted(V1)), FILE | st.just(b"8:0 Read x\n8:0 Write -5\n"), min_size=1))
def test_counters_of_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "_hierarchies", UNREMEMBERED)
    monkeypatch.setattr(cgroup, "version", lambda: 1)
    monkeypatch.setattr(cgroup, "enable_block_accounting", lambda: True)
    for folder, names in FOLDERS.items():
        (tmp_path / folder / "group").mkdir(parents=True, exist_ok=True)
        for name in names:
            (tmp_path / folder / "group" / name).write_bytes(files.get(name, V1[name]))
    found = reading(tmp_path)
    for name, honest in (
        ("cpu_ns", 1234),
        ("memory_bytes", 4096),
        ("pids", 5),
        ("throttled_ns", 7),
        ("oom_kills", 3),
        ("block_read_bytes", 10),
        ("block_write_bytes", 20),
    ):
        value = getattr(found, name)
        assert value is None or (type(value) is int and 0 <= value < 2**64), name
        if not files.keys() & {
            file for file in V1 if honest in map(int, filter(str.isdigit, V1[file].decode().split()))
        }:
            assert value == honest, name
