"""The environment of KerasHub: made once, apart from the project's own."""

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("keras-hub==0.32.*", "keras==3.15.*", "jax==0.10.*", "safetensors")


def python() -> str:
    """The Python of that environment, which is made first where there is none.

    It lies in the folder that ZOO_CACHE names, or in ~/.cache/zoo.
    """
    cache = Path(os.environ.get("ZOO_CACHE", Path.home() / ".cache" / "zoo"))
    folder = cache / f"keras-hub-python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [interpreter, "-m", "pip", "install", "--quiet", *PACKAGES]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise RuntimeError(f"it cannot be installed here: {reason}")
        ready.touch()
    return str(interpreter)
