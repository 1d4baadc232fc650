"""The ways to share the work between devices, as `zoo pretrain --parallel` names them."""

from train.devices.mesh import MeshPlacement
from train.devices.pmap import PmapPlacement

PARALLELISM: dict[str, type[MeshPlacement] | type[PmapPlacement]] = {
    "mesh": MeshPlacement,
    "pmap": PmapPlacement,
}
