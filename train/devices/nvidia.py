"""Whether JAX can use an NVIDIA GPU, as far as files tell: no backend of JAX is started.

Drivers: https://docs.jax.dev/en/latest/installation.html, "NVIDIA GPU".
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path

LEAST_DRIVER = {12: 525, 13: 580}  # CUDA version of JAX's wheels -> the oldest driver
DEVICES, DRIVER = Path("/dev"), Path("/proc/driver/nvidia/version")
NAMES = {"cuda", "gpu"}  # of the platform in JAX_PLATFORMS


def is_used() -> bool:
    """Return whether JAX will use a GPU: there is one, the wheels for it, and it may be used."""
    chosen = _platforms()
    return _is_present() and _wheels() is not None and (not chosen or bool(chosen & NAMES))


def check() -> None:
    """Raise ValueError if JAX_PLATFORMS asks for a GPU that JAX cannot use."""
    if not _platforms() & NAMES:
        return
    asked = f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']} asks for a GPU, but "
    if _wheels() is None:
        raise ValueError(
            f"{asked}JAX is installed without CUDA: pip install 'language-zoo[cuda]', or unset it"
        )
    if not _is_present():
        raise ValueError(f"{asked}this machine shows none: look at nvidia-smi, or unset it")


def outdated_driver() -> str | None:
    """Return a line about a driver that is older than the CUDA wheels need, or None.

    It is no error: NVIDIA's compatibility libraries let some GPUs run with an older driver.
    """
    driver, cuda = _driver(), _wheels()
    if not is_used() or driver is None or cuda is None or driver >= LEAST_DRIVER[cuda]:
        return None
    return (
        f"the NVIDIA driver {driver} is older than CUDA {cuda} needs, which is "
        f"{LEAST_DRIVER[cuda]}, so JAX may not find the GPU: update the driver"
    )


def _platforms() -> set[str]:
    """Return the platforms that JAX_PLATFORMS names; none: JAX chooses."""
    return set(filter(None, os.environ.get("JAX_PLATFORMS", "").lower().split(",")))


def _is_present() -> bool:
    """Return whether there is the device of a GPU, or that of Windows' Linux subsystem."""
    return any(DEVICES.glob("nvidia[0-9]*")) or (DEVICES / "dxg").exists()


def _wheels() -> int | None:
    """Return the CUDA version of JAX's wheels, or None without any."""
    if find_spec("jax_plugins") is None:
        return None
    newest_first = sorted(LEAST_DRIVER, reverse=True)
    return next((cuda for cuda in newest_first if find_spec(f"jax_plugins.xla_cuda{cuda}")), None)


def _driver() -> int | None:
    """Return the major version of the kernel's driver, or None if it does not tell."""
    try:
        found = re.search(r"\s(\d{3,})\.\d", DRIVER.read_text())
    except OSError:
        return None
    return int(found[1]) if found else None
