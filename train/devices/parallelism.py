"""The ways to share the work between devices, as `zoo pretrain --parallel` names them."""

from collections.abc import Callable

from train.devices.mesh import MeshPlacement
from train.devices.placement import Placement, Training
from train.devices.pmap import PmapPlacement

PARALLELISM: dict[str, Callable[[Training, tuple[int, int, int]], Placement]] = {
    "mesh": MeshPlacement,
    "pmap": PmapPlacement,
}
