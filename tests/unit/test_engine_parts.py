"""What the native engine is made of and needs no kernel for: bundle, seccomp, users, records, names, recipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import validation
from runtime.api import ContainerSpec, Limits, Port, State
from runtime.engines.native import bundle, oci, passwd, seccomp
from runtime.engines.native.records import Record, decode_spec, encode_spec
from runtime.errors import DeadlineExceeded, EngineFault, HostUnfit, InvalidSpec, LimitExceeded, OutOfSpace
from runtime.home import Home, sweep_temporaries
from runtime.image.recipe import parse, recipes
from runtime.kernel import cgroup
from runtime.kernel.process import start_time
from runtime.network import endpoint, resolving
from runtime.network.addresses import port_claims, take_ports
from runtime.network.claims import Claims
from runtime.network.endpoint import Endpoint, Place
from runtime.network.tenants import TenantSlots
from tests.unit.homes import OwnRun

SPEC = ContainerSpec(
    id="c1x", tenant="t1x", name="web", image="sha256:x", env={"A": "b"}, limits=Limits(64 << 20, 1500, 10)
)
IMAGE = {"Entrypoint": ["/run"], "Cmd": ["serve"], "Env": ["A=image", "B=image"], "WorkingDir": "/srv"}


def configuration(spec: ContainerSpec = SPEC, uid: int = 0) -> dict[str, object]:
    host = bundle.Host(
        Path("/m"), Path("/b"), "/s/t/c", 0x40000000, 2, {"defaultAction": "SCMP_ACT_ERRNO"}, Path("/v"), 1024
    )
    return bundle.configuration(spec, IMAGE, passwd.Identity(uid, uid), host)


def test_a_container_is_confined() -> None:
    made = configuration()
    process, linux = made["process"], made["linux"]
    assert isinstance(process, dict)
    assert isinstance(linux, dict)
    assert process["noNewPrivileges"] is True
    assert {space["type"] for space in linux["namespaces"]} == {
        "pid",
        "network",
        "ipc",
        "uts",
        "mount",
        "user",
        "cgroup",
    }
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 0x40000000, "size": 65536}]
    assert linux["seccomp"]
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]
    assert not {"CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_MKNOD", "CAP_NET_ADMIN"} & set(process["capabilities"]["bounding"])
    assert not any(
        mount["type"] == "bind" and mount["source"].startswith(("/etc", "/proc", "/sys")) for mount in made["mounts"]
    )  # type: ignore[attr-defined]


def test_a_user_that_is_not_root_has_no_capability() -> None:
    process = configuration(uid=33)["process"]
    assert isinstance(process, dict)
    assert process["capabilities"]["effective"] == []


def test_limits_become_resources() -> None:
    made = bundle.resources(SPEC, 2)
    assert made["memory"] == {"limit": 64 << 20, "swap": 64 << 20}
    assert (made["cpu"]["quota"], made["cpu"]["period"]) == (150_000, 100_000)
    assert made["pids"]["limit"] == 10


def test_a_tenants_ceiling_caps_a_quota_on_version_1_alone() -> None:
    """On version 2 the tenant's cgroup does, and nobody would raise the container's when the ceiling goes."""
    assert bundle.resources(SPEC, 1, 300)["cpu"]["quota"] == 30_000
    assert bundle.resources(SPEC, 2, 300)["cpu"]["quota"] == 150_000


def test_command_and_environment_of_image_and_spec() -> None:
    assert bundle.command(SPEC, IMAGE) == ["/run", "serve"]
    environment = bundle.environment(SPEC, IMAGE, "/root")
    assert "A=b" in environment
    assert "B=image" in environment
    with pytest.raises(InvalidSpec):
        bundle.command(SPEC, {})


def test_seccomp_rules_hold_under_their_conditions() -> None:
    source = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}},
            {"names": ["chown"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"]}, "excludes": {}},
            {"names": ["arm"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}, "excludes": {}},
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "includes": {}, "excludes": {"caps": ["CAP_CHOWN"]}},
        ],
    }  # fmt: skip
    made = seccomp.translate(source, "x86_64", frozenset({"CAP_CHOWN"}))
    assert [rule["names"] for rule in made["syscalls"]] == [["read"], ["chown"]]
    assert made["architectures"] == ["SCMP_ARCH_X86_64"]


def test_users_come_from_the_images_own_files(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("www:x:33:34:w:/srv:/bin/sh\nbroken\n")
    (tmp_path / "etc/group").write_text("extra:x:50:www\n")
    assert passwd.resolve(tmp_path, "www") == passwd.Identity(33, 34, (50,), "/srv")
    assert passwd.resolve(tmp_path, "1000:2000") == passwd.Identity(1000, 2000)
    assert passwd.resolve(tmp_path, "www:extra").gid == 50
    for bad in ("nobody-here", "70000", "www:none"):
        with pytest.raises(InvalidSpec):
            passwd.resolve(tmp_path, bad)


def test_a_linked_passwd_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root2:x:5:5:::\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidSpec):
        passwd.resolve(tmp_path, "root2")


def test_an_illegal_transition_raises() -> None:
    with pytest.raises(EngineFault):
        Record(State.CREATED, 0.0).moved(State.EXITED)
    with pytest.raises(EngineFault):
        Record(State.RUNNING, 0.0).moved(State.REMOVING)


def test_a_spec_survives_the_disk() -> None:
    assert decode_spec(encode_spec(SPEC)) == SPEC


def test_the_runtimes_words_become_sentences() -> None:
    assert oci.fault('exec: "foo": executable file not found in $PATH').field == "command"
    assert isinstance(oci.fault("write /x: no space left on device"), OutOfSpace)
    for words in ("error during container init: mkdir /bin/sh: not a directory", "Cwd must be an absolute path"):
        assert oci.fault(f"runc create failed: {words}").field == "working_dir"
    assert isinstance(oci.fault("something nobody has seen"), EngineFault)


def test_interface_names_fit() -> None:
    home = Home(Path("/x"), "an-instance-with-a-very-long-name")
    assert len(home.veth("c" * 32)) <= 15
    assert len(home.bridge("t" * 32)) <= 15
    assert home.veth("c1") != Home(Path("/x"), "other").veth("c1")


@pytest.mark.root
def test_locks_exclude_and_share(place: object) -> None:
    home = Home.from_environment()
    with home.lock("x"), pytest.raises(DeadlineExceeded), home.lock("x", timeout_s=0.05):
        pass
    with home.lock("x", shared=True), home.lock("x", shared=True, timeout_s=0.05):
        pass
    entered = threading.Event()

    def wait() -> None:
        with home.lock("x", timeout_s=5):
            entered.set()

    with home.lock("x"):
        waiter = threading.Thread(target=wait)
        waiter.start()
        home.forget_lock("x")
    waiter.join(5)
    assert entered.is_set()
    import shutil

    shutil.rmtree(home.run)


def test_recipes_are_whole() -> None:
    found = {recipe.slug for recipe in recipes()}
    assert {"busybox", "nginx", "redis", "postgresql", "python"} <= found
    for recipe in recipes():
        assert recipe.icon.exists(), recipe.slug
        assert recipe.memory_needed <= recipe.memory_bytes
        for table in (
            recipe.summary,
            recipe.description,
            *(row.help or {"en": "-", "zh-hans": "-"} for row in recipe.environment),
        ):
            assert table["en"]
            assert table["zh-hans"]


def test_a_bad_recipe_names_its_key() -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse("x", b'title = "X"')
    assert "category" in caught.value.field
    with pytest.raises(InvalidSpec):
        parse("x", b"not toml [")


@pytest.mark.parametrize("user", ["²", "0:٣", "１"])
def test_digits_of_other_scripts_are_no_ids(tmp_path: Path, user: str) -> None:
    with pytest.raises(InvalidSpec):
        passwd.resolve(tmp_path, user)


def test_the_runtimes_own_words_name_no_path_of_the_host() -> None:
    told = oci.fault(
        "runc run failed: strange thing at /var/lib/slipway/runtime/containers/c1/upper: odd", "It could not be"
    )
    assert "/var" not in str(told)
    assert "strange thing" in str(told)


def test_one_port_of_one_address_is_published_once() -> None:
    for other in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(InvalidSpec, match="given twice") as told:
            validation.check(replace(SPEC, ports=(Port(80, "tcp", 8080), Port(81, "tcp", 8080, other))))
        assert told.value.field == "ports[1].host_port"
    validation.check(replace(SPEC, ports=(Port(80, "tcp", 8080, "127.0.0.1"), Port(81, "tcp", 8080, "127.0.0.2"))))
    validation.check(replace(SPEC, ports=(Port(80, "tcp", 8080), Port(80, "udp", 8080), Port(80), Port(80))))


def test_a_wrong_stop_signal_names_its_field() -> None:
    with pytest.raises(InvalidSpec) as told:
        validation.check(replace(SPEC, stop_signal="SIGNONE"))
    assert told.value.field == "stop_signal"


def test_a_claim_is_its_owners_until_it_is_freed(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "made")
    assert claims.take("10.0.0.2", "cone")
    assert claims.take("10.0.0.3", "ctwo")
    assert claims.take("10.0.0.2", "cone"), "twice is once"
    assert not claims.take("10.0.0.2", "ctwo")
    assert sorted(claims.holdings()) == [("cone", "10.0.0.2"), ("ctwo", "10.0.0.3")]
    assert not claims.free("10.0.0.2", "ctwo"), "another's stays"
    claims.free_all("ctwo")
    assert list(claims.holdings()) == [("cone", "10.0.0.2")]
    assert claims.free("10.0.0.2", "cone")
    assert not claims.free("10.0.0.2", "cone"), "twice is once"
    assert list(claims.folder.iterdir()) == []


def test_a_claim_of_an_earlier_version_holds(tmp_path: Path) -> None:
    (tmp_path / "10.0.0.2").write_text("cone")
    claims = Claims(tmp_path)
    assert not claims.take("10.0.0.2", "ctwo")
    assert claims.take("10.0.0.2", "cone")
    assert list(claims.holdings()) == [("cone", "10.0.0.2")]
    assert claims.free("10.0.0.2", "cone")


def test_a_file_that_a_power_cut_emptied_is_nobodys_claim(tmp_path: Path) -> None:
    for name in ("10.0.0.2", "10.0.0.3"):
        (tmp_path / name).touch()
    claims = Claims(tmp_path)
    assert claims.take("10.0.0.2", "cone")
    assert list(claims.holdings()) == [("cone", "10.0.0.2")]
    assert claims.names() == ("10.0.0.2",), "the other is gone"


def test_what_a_dead_process_was_writing_is_swept(tmp_path: Path) -> None:
    mine, dead = tmp_path / f".status.json.{os.getpid()}.1", tmp_path / ".status.json.4194304.1"
    for path in (mine, dead, tmp_path / "status.json"):
        path.touch()
    assert sweep_temporaries(tmp_path) == (dead.name,)
    assert mine.exists()
    assert (tmp_path / "status.json").exists()


def test_a_sweep_holds_no_list_of_all_that_is_there(tmp_path: Path) -> None:
    """Final readings that nobody takes in while the database is away are thousands."""
    for number in range(3000):
        (tmp_path / f"c{number}-1-1790000000000.json").touch()
    tracemalloc.start()
    try:
        assert not sweep_temporaries(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100 * 3000, "bytes by the file"


def test_a_kernel_without_a_controller_that_limits_need_is_named(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io\n")
    (tmp_path / "cgroup.subtree_control").write_text("\n")
    with pytest.raises(HostUnfit, match="memory and pids"):
        cgroup._delegate(tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "\n", "nothing half done"


UNTANGLED = "nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.1\nnameserver fd00::1\nsearch example.org\n"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (UNTANGLED, "nameserver 192.0.2.1\nsearch example.org\n"),
        (UNTANGLED[::-1], "nameserver 192.0.2.1\nsearch example.org\n"),
        (UNTANGLED[:1], "options edns0\n"),
        (("nameserver\n", "nameserver fe80::1%eth0\n"), "\n"),
        ((), "\n"),
    ],
)
def test_name_servers_are_those_that_a_container_can_reach(
    tmp_path: Path, sources: tuple[str, ...], expected: str
) -> None:
    """systemd-resolved leaves only its stub on the loopback in /etc/resolv.conf."""
    files = [tmp_path / str(number) for number in range(len(sources) + 1)]
    for file, text in zip(files, sources, strict=False):
        file.write_text(text)
    assert resolving.of_node(files) == expected


def place_of(network: str, **fields: object) -> Place:
    plain = Place(network, "swb1", "sw1", "eth0", "02:00:00:00:00:01", "10.9.0.2", 24, "10.9.0.1", names="10.9.0.1")
    return replace(plain, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([place_of("default")], "nameserver 10.9.0.1\nsearch default.slipway.internal example.org\noptions edns0\n"),
        (
            [place_of("in", internal=True, names="10.8.0.1"), place_of("out")],
            "nameserver 10.9.0.1\nsearch out.slipway.internal in.slipway.internal example.org\noptions edns0\n",
        ),
        ([place_of("site", names="")], "options edns0\nnameserver 192.0.2.1\nsearch example.org\n"),
    ],
)
def test_a_container_asks_its_networks_before_the_node(tmp_path: Path, places: list[Place], expected: str) -> None:
    source = tmp_path / "resolv.conf"
    source.write_text("options edns0\nnameserver 192.0.2.1\nnameserver 127.0.0.53\nsearch example.org\n")
    assert resolving.resolv_conf(Endpoint("c1", "t1", "web", tuple(places), ()), [source]) == expected


def test_an_endpoint_survives_the_disk_also_one_of_a_container_that_an_older_version_started(tmp_path: Path) -> None:
    home = OwnRun(tmp_path)
    place = place_of("back", aliases=("db",), interface=home.veth("cnew"))
    made = Endpoint("cnew", "tenant1", "web", (place,), (Port(80, host_port=9),), 8000, None)
    endpoint.save(home, made)
    assert endpoint.load(home, "cnew") == made
    old = {
        "container": "cold", "tenant": "tenant1", "address": "10.9.0.3", "prefix": 24, "gateway": "10.9.0.1", "mac": "02:00:00:00:00:02",
        "interface": home.veth("cold"), "bridge": "swb1", "ports": [{"container_port": 80, "protocol": "tcp", "host_port": 9, "host_address": "0.0.0.0"}],
    }  # fmt: skip
    (home.run / "endpoints/cold.json").write_text(json.dumps(old))
    found = endpoint.load(home, "cold")
    assert found
    assert (found.address, found.interface, found.main.network) == ("10.9.0.3", home.veth("cold"), "default")
    assert found.ports == (Port(80, host_port=9),)


def test_a_record_and_a_spec_of_an_older_version_are_read() -> None:
    kept = json.loads(encode_spec(SPEC))
    del kept["networks"], kept["limits"]["net_rx_bps"], kept["limits"]["net_tx_bps"]
    assert decode_spec(json.dumps(kept).encode()) == SPEC


def test_a_program_whose_first_thread_has_ended_is_alive() -> None:
    program = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start();"
        "print('up', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        deadline = time.monotonic() + 10
        while b") Z " not in Path(f"/proc/{child.pid}/stat").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = start_time(child.pid)
        child.kill()
        assert started is not None
        while Path(f"/proc/{child.pid}/task").is_dir() and len(list(Path(f"/proc/{child.pid}/task").iterdir())) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert start_time(child.pid) is None, "a zombie has ended"


def test_a_tenant_that_no_subnet_is_left_for_is_not_written_down(tmp_path: Path) -> None:
    home = OwnRun(tmp_path, subnets="10.9.0.0/24")
    slots = TenantSlots(home)
    assert slots.get("tenant1").subnet == "10.9.0.0/24"
    with pytest.raises(LimitExceeded):
        slots.get("tenant2")
    assert [file.stem for file in home.tenants.glob("*.json")] == ["tenant1"]


def test_a_port_at_an_address_of_another_node_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="not an address of this node") as told:
        take_ports(OwnRun(tmp_path), (Port(80), Port(81, host_address="192.0.2.7")), "cone")
    assert told.value.field == "ports[1].host_address"
    assert list(port_claims(OwnRun(tmp_path)).holdings()) == []
