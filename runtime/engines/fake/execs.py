"""A shell of three words, on a thread: ``echo``, ``exit`` and ``yes``; everything else is echoed back."""

from __future__ import annotations

import os
import pty
import threading
import tty
from typing import BinaryIO, cast

from runtime.api import ExecSpec
from runtime.errors import DeadlineExceeded


class FakeExec:
    """See :class:`runtime.api.ExecSession`."""

    def __init__(self, spec: ExecSpec) -> None:
        self.size = (spec.columns, spec.rows)
        self._code: int | None = None
        self._done = threading.Event()
        self.stderr: BinaryIO | None = None
        if spec.terminal:
            master, self._inner = pty.openpty()
            tty.setraw(self._inner)
            stream = cast("BinaryIO", os.fdopen(master, "r+b", buffering=0))
            self.stdin: BinaryIO = stream
            self.stdout: BinaryIO = stream
            threading.Thread(target=self._shell, daemon=True).start()
        else:
            reader, writer = os.pipe()
            os.write(writer, (" ".join(spec.command[1:]) + "\n").encode())
            os.close(writer)
            self.stdout = cast("BinaryIO", os.fdopen(reader, "rb", buffering=0))
            self.stdin = cast("BinaryIO", open(os.devnull, "wb", buffering=0))  # noqa: SIM115 -- closed in close()
            self._inner = -1
            self._finish(1 if spec.command[0] == "false" else 0)

    def _finish(self, code: int) -> None:
        self._code = code
        self._done.set()

    def _shell(self) -> None:
        """Lines in, lines out, until ``exit N`` or the terminal is hung up."""
        line = b""
        try:
            os.write(self._inner, b"$ ")
            while not self._done.is_set():
                byte = os.read(self._inner, 1)
                if not byte:
                    break
                if byte not in {b"\r", b"\n"}:
                    line += byte
                    os.write(self._inner, byte)
                    continue
                words, line = line.decode(errors="replace").split(), b""
                if words[:1] == ["exit"]:
                    self._finish(int(words[1]) if len(words) > 1 else 0)
                    break
                while words == ["yes"]:
                    os.write(self._inner, b"y\r\n" * 1000)
                said = " ".join(words[1:] if words[:1] == ["echo"] else words)
                os.write(self._inner, f"\r\n{said}\r\n$ ".encode())
        except OSError:
            self._finish(129)
        finally:
            os.close(self._inner)
            if self._code is None:
                self._finish(129)

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)

    def poll(self) -> int | None:
        return self._code

    def wait(self, timeout_s: float) -> int:
        if not self._done.wait(timeout_s):
            raise DeadlineExceeded(f"The command did not end within {timeout_s:g} seconds.")
        return self._code or 0

    def close(self) -> None:
        self.stdout.close()
        if self.stdin is not self.stdout:
            self.stdin.close()
        self._done.wait(2)
