"""The machines that a run can be planned for, as their vendors specify them.

TPU: https://docs.cloud.google.com/tpu/docs/v5e and the pages of the other versions. NVIDIA: the
data sheets at https://resources.nvidia.com. A link is what one chip sends to others per second, in
one direction over all of its links: half of the two-way figures of the data sheets.
"""

import math
import os
import re
from dataclasses import dataclass

from train.devices.accelerators import PEAK

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """A kind of chip.

    Attributes:
      kind: Its name in `train.devices.accelerators.PEAK`; None: a CPU.
      memory: Bytes.
      bandwidth: Bytes per second between memory and chip.
      link: Bytes per second to other chips, in one direction.
      topologies: The shapes that a TPU is rented in; empty: any number of chips.
    """

    kind: str | None
    memory: float
    bandwidth: float
    link: float
    topologies: tuple[str, ...] = ()

    @property
    def flops(self) -> float | None:
        """FLOP per second in bfloat16, or None if that is unknown."""
        return None if self.kind is None else PEAK[self.kind]


FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
POD = ("8x16x16", "16x16x16")
CHIPS = {
    "v4": Chip("TPU v4", 32 * GIB, 1228e9, 150e9, (*CUBES, *POD)),
    "v5e": Chip("TPU v5e", 16 * GIB, 819e9, 100e9, FLAT),
    "v5p": Chip("TPU v5p", 95 * GIB, 2765e9, 300e9, (*CUBES, *POD)),
    "v6e": Chip("TPU v6e", 32 * GIB, 1640e9, 224e9, FLAT),
    "a100": Chip("A100", 80e9, 2039e9, 300e9),
    "h100": Chip("H100", 80e9, 3350e9, 450e9),
    "h200": Chip("H200", 141e9, 4800e9, 450e9),
}


@dataclass(frozen=True)
class Machine:
    """Chips of one kind that train one model.

    Attributes:
      name: What the user calls it, such as "v5e:2x4".
      chip: The kind of chip.
      devices: Their number.
    """

    name: str
    chip: Chip
    devices: int

    @property
    def platform(self) -> str:
        """The name of its kind of device in JAX."""
        if self.chip.kind is None:
            return "cpu"
        return "tpu" if self.chip.topologies else "gpu"


def machine(name: str) -> Machine:
    """Return the machine of a name: "v5e:2x4", "h100:8", or "cpu".

    Raises:
      ValueError: If there is no such chip or topology; the message names those that there are.
    """
    chip_name, _, shape = name.partition(":")
    if chip_name == "cpu":
        if shape:
            raise ValueError(f"--on {name}: a CPU has no number of chips: use cpu")
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Machine("cpu", Chip(None, memory, math.inf, math.inf), 1)
    if chip_name not in CHIPS:
        raise ValueError(f"--on {name}: unknown chip; use one of {', '.join(CHIPS)}, cpu")
    chip = CHIPS[chip_name]
    if chip.topologies:
        if shape not in chip.topologies:
            some = ", ".join(f"{chip_name}:{topology}" for topology in chip.topologies)
            raise ValueError(f"--on {name}: there is no such topology; use one of {some}")
        return Machine(name, chip, math.prod(map(int, shape.split("x"))))
    if not re.fullmatch(r"[1-9]\d{0,5}", shape or "1"):
        raise ValueError(f"--on {name}: give the number of chips, such as {chip_name}:8")
    return Machine(name, chip, int(shape or 1))
