"""Holds a GPU's memory, as a second process on the card does, and tells how much of it is free. Run as a program of its own, `hog.py`,
which is told by lines and answers each with one JSON object: `look`, `leave BYTES` (takes what is more than that), `release`. It ends
with its standard input, and holds nothing afterwards. It needs the driver's library alone, and takes the first GPU that it is shown."""

import ctypes
import json
import pathlib
import subprocess
import sys
from typing import Self

OUT_OF_MEMORY = 2
# What the driver gives memory in; less than that is not asked for.
GRAIN = 2 << 20


class Hog:
    """The program, as others use it."""

    def __init__(self, environment: dict[str, str]):
        command = [sys.executable, str(pathlib.Path(__file__).resolve())]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stdin.close()
        self.child.wait(30)

    def _told(self, line: str) -> dict:
        try:
            self.child.stdin.write(line + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and what it said is read below
        answer = self.child.stdout.readline()
        told = json.loads(answer) if answer else {"error": f"hog.py ended with {self.child.wait()}"}
        if "error" in told:
            raise RuntimeError(told["error"])
        return told

    def look(self) -> dict:
        """Bytes `free` and in `total`, and the `name` of the GPU."""
        return self._told("look")

    def leave(self, size: int) -> dict:
        """Takes memory until no more than `size` bytes are free."""
        return self._told(f"leave {size}")

    def release(self) -> dict:
        return self._told("release")


class Driver:
    """The calls of libcuda that are needed, in the context that a process has by default."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.device, context, name = ctypes.c_int(), ctypes.c_void_p(), ctypes.create_string_buffer(256)
        self.call("cuInit", ctypes.c_uint(0))
        self.call("cuDeviceGet", ctypes.byref(self.device), ctypes.c_int(0))
        self.call("cuDeviceGetName", name, ctypes.c_int(len(name)), self.device)
        self.name = name.value.decode(errors="replace")
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name: str, *arguments: object, expected: tuple[int, ...] = ()) -> int:
        code = getattr(self.library, name)(*arguments)
        if code and code not in expected:
            raise OSError(f"{name} ended with {code}")
        return code

    def free(self) -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def take(self, size: int) -> int | None:
        """Where so many bytes are; nothing when they are not to be had in one piece."""
        where = ctypes.c_uint64()
        code = self.call("cuMemAlloc_v2", ctypes.byref(where), ctypes.c_size_t(size), expected=(OUT_OF_MEMORY,))
        return None if code else where.value

    def give_back(self, where: int) -> None:
        self.call("cuMemFree_v2", ctypes.c_uint64(where))


def fill(driver: Driver, held: list[int], size: int) -> None:
    """Takes ever smaller pieces, until no more than `size` bytes are free."""
    piece = driver.free()[0]
    while piece >= GRAIN:
        piece = min(piece, driver.free()[0] - size) // GRAIN * GRAIN
        if piece < GRAIN:
            return
        where = driver.take(piece)
        if where is None:
            piece //= 2
        else:
            held.append(where)


def main() -> int:
    held: list[int] = []
    try:
        driver = Driver()
        for line in sys.stdin:
            what, _, size = line.strip().partition(" ")
            if what == "leave":
                fill(driver, held, int(size))
            elif what == "release":
                while held:
                    driver.give_back(held.pop())
            elif what != "look":
                raise ValueError(f"{what!r} is not known: look, leave BYTES, release")
            free, total = driver.free()
            print(json.dumps({"free": free, "total": total, "name": driver.name}), flush=True)
    except (OSError, ValueError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
