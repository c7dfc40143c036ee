"""One answer of the kernel about all interfaces says what each interface's own files say."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from runtime.kernel.namespaces import inside_network
from runtime.kernel.traffic import traffic

pytestmark = pytest.mark.root
MANY = 300


def test_every_interface_is_there_with_its_own_bytes(tmp_path: Path) -> None:
    name = f"traffic{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        pairs = "".join(f"link add a{n} type veth peer name b{n}\nlink set a{n} up\n" for n in range(MANY))
        subprocess.run(["ip", "-netns", name, "-batch", "-"], input=pairs, text=True, check=True)
        subprocess.run(["ip", "-netns", name, "link", "set", "lo", "up"], check=True)
        with inside_network(Path("/run/netns", name)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(bytes(1000), ("127.0.0.1", 9))
            found = traffic()
            names = dict(socket.if_nameindex())
        assert set(found) == set(names)
        assert len(found) == 2 * MANY + 1
        received, sent = next(found[index] for index, interface in names.items() if interface == "lo")
        assert received == sent
        assert sent > 1000
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_the_bytes_are_those_of_the_files() -> None:
    index = socket.if_nametoindex("lo")
    before = int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text())
    received, sent = traffic()[index]
    after = int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text())
    assert before <= sent <= after
    assert received == sent
