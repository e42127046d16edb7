"""Reads what compilers made of GPU kernels: registers, stack, instructions and loops."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SPILL = re.compile(r"\b(STL|LDL)\b")


@dataclass(frozen=True, kw_only=True)
class Function:
    """One kernel."""

    name: str
    registers: int
    stack: int  # bytes of a thread
    instructions: list[str]
    loops: list[tuple[int, int]]  # first and last instruction, of each

    def spills(self, loop: tuple[int, int] | None = None) -> int:
        """Instructions that move registers to and from the stack, of all or of a loop."""
        return sum(bool(SPILL.search(i)) for i in self.body(loop))

    def body(self, loop: tuple[int, int] | None) -> list[str]:
        """The instructions of a loop, or all."""
        return self.instructions[loop[0] : loop[1] + 1] if loop else self.instructions

    def inner_loops(self) -> list[tuple[int, int]]:
        """Those that hold no other."""
        return [
            a for a in self.loops if not any(a != b and a[0] <= b[0] <= a[1] for b in self.loops)
        ]

    def innermost(self) -> list[str]:
        """The shortest loop, if it does any work."""
        return min((self.body(loop) for loop in self.loops), key=len)


def machine_code(path: Path | str) -> list[Function]:
    """The kernels of a cubin; skips the test where the programs that read one are missing."""
    usage = _ask("cuobjdump", "--dump-resource-usage", path)
    listing = _ask("nvdisasm", "-c", path)
    bodies = {part.split(":")[0]: part for part in re.split(r"\n\.text\.", listing)[1:]}
    found = re.findall(r"Function (\w+):\s+REG:(\d+) STACK:(\d+)", usage)
    return [_function(name, int(reg), int(stack), bodies[name]) for name, reg, stack in found]


def _function(name: str, registers: int, stack: int, body: str) -> Function:
    labels: dict[str, int] = {}
    instructions: list[str] = []
    loops = []
    for line in body.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.search(r"/\*[0-9a-f]{4,}\*/\s+(\S+.*?);", line):
            instructions.append(found[1])
            target = re.search(r"BRA.*(\.L_x_\d+)", found[1])
            if target and len(instructions) - labels.get(target[1], len(instructions)) > 4:
                loops.append((labels[target[1]], len(instructions) - 1))
    return Function(
        name=name, registers=registers, stack=stack, instructions=instructions, loops=loops
    )


def _ask(name: str, *arguments: Path | str) -> str:
    """What a program says that comes with Triton, or that the system has."""
    triton = importlib.util.find_spec("triton")
    beside = Path(triton.origin or "").parent / "backends/nvidia/bin" / name if triton else None
    found = str(beside) if beside and beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not here, which reads compiled kernels")
    command = [found, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
