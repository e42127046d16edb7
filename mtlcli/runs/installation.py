"""What of this program and what it may use is installed, and what this machine has."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import mtlcli
from mtlcli.data import shared_memory
from mtlcli.files import gigabytes
from mtlcli.home import available_cores, home

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "h5py", "numba")
OPTIONAL = {
    "tb": ("tensorboard", "mtl train --logger tensorboard"),
    "wandb": ("wandb", "mtl train --logger wandb"),
    "surgery": ("torchjd", "mtl train --weighting pcgrad"),
    "web": ("gradio", "mtl serve"),
    "onnx": ("onnxruntime", "mtl export"),
    "openvino": ("openvino", "mtl export --compare"),
}
"""Extra -> the package that tells whether it is there, and the command that needs it."""


def list_versions() -> dict[str, str | None]:
    """Of this program, of Python, and of the packages that results and options depend on."""
    found: dict[str, str | None] = {"mtl": mtlcli.__version__, "python": platform.python_version()}
    optional = (package for package, _ in OPTIONAL.values())
    return found | {package: installed(package) for package in (*PACKAGES, *optional)}


def installed(package: str) -> str | None:
    """The version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def list_missing() -> dict[str, str]:
    """The extras that are not installed, with the command that installs each."""
    return {
        extra: f"pip install 'mtlcli[{extra}]'"
        for extra, (package, _) in OPTIONAL.items()
        if installed(package) is None
    }


def examine_machine() -> dict[str, Any]:
    """Cores, memory and free disk in bytes, and devices other than the CPU."""
    import torch

    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(f"cuda:{index} {properties.name}, {gigabytes(properties.total_memory)}")
    if torch.backends.mps.is_available():
        devices.append("mps")
    place = next(folder for folder in (home(), *home().absolute().parents) if folder.exists())
    return {
        "cores": available_cores(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "devices": devices,
        "home": str(home().absolute()),
        "free_disk": shutil.disk_usage(place).free,
        "free_shared": shared_memory.free(),  # None: this system has no such limit
    }
