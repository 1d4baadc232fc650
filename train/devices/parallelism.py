"""The kinds of parallelism, by their names in `zoo pretrain --parallel`."""

from collections.abc import Callable

from train.devices.mesh import MeshPlacement
from train.devices.placement import Placement, Training
from train.devices.pmap import PmapPlacement

PARALLELISM: dict[str, Callable[[Training, tuple[int, int, int]], Placement]] = {
    "mesh": MeshPlacement,
    "pmap": PmapPlacement,
}
