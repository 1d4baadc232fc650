"""Peak performance of accelerators as specified by their vendors: dense bfloat16 FLOP/s per device.

TPU: https://docs.cloud.google.com/tpu/docs/v6e and the pages of the other versions, which specify
chips. On v2, v3 and TPU7x a JAX device is one of the two cores of a chip. (v4 lite, v2: table in
jax's tpu_info.py.) NVIDIA: the data sheets at https://resources.nvidia.com; values "with sparsity"
are halved. V100 and T4 do not support bfloat16; their values are for float16.
"""

import re
from collections.abc import Sequence

import jax

# The first name that is a whole word in the device kind applies.
PEAK = {
    "TPU v2": 46e12 / 2,
    "TPU v3": 123e12 / 2,
    "TPU v4 lite": 137e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 2307e12 / 2,
    "V100": 125e12,
    "T4": 65e12,
    "A100": 312e12,
    "L4": 121e12,
    "L40S": 362e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "B200": 2250e12,
}


def peak(devices: Sequence[jax.Device]) -> float | None:
    """Return the bfloat16 FLOP/s of all devices together, or None if one is not in the table."""
    peaks = [_peak(device.device_kind) for device in devices]
    return None if None in peaks else sum(peaks)


def _peak(kind):
    if "MIG" in kind:  # a slice of a GPU has the name of the full GPU
        return None
    return next((flops for name, flops in PEAK.items() if re.search(rf"\b{name}\b", kind)), None)
