"""Named tensors out of files written elsewhere: PyTorch, PyTorch Lightning, safetensors.

Nothing in such a file is executed: what is not a tensor or a plain container becomes an empty
shell, so that a training framework's checkpoint opens without the framework.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mtlcli.errors import InputError

WRAPPERS = ("state_dict", "network", "model")  # keys under which programs store their tensors
PREFIXES = ("module.", "model.")  # what wrappers of networks put before every name
SAFETENSORS = ".safetensors"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU; prefixes that all names share are taken off.

    Raises:
        InputError: no such file, or none of the known formats.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        state = load_file(path) if path.suffix == SAFETENSORS else read_pickled(path)
    except Exception as error:  # damaged bytes may fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as a file of tensors ({reason}).") from error
    if not state:
        raise InputError(f"{path} holds no named tensors.")
    return unprefixed(state)


def unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names without what a wrapper of the network put before all of them."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors that `torch.save` wrote, wherever a training program put them."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=SHELLS)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    return {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}


class Shell(dict):  # type: ignore[type-arg]
    """Stands for an object of a class that is not loaded."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> "Shell":
        return self

    def append(self, *_: Any) -> None:
        pass

    extend = append

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class ShellUnpickler(pickle.Unpickler):
    """Resolves what tensors are made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return getattr(torch._utils, name)
        if module == "torch" and name.endswith("Storage"):
            return getattr(torch, name)
        return Shell


def load_shells(file: Any, **options: Any) -> Any:
    """`pickle.load`, with shells."""
    return ShellUnpickler(file, **options).load()


SHELLS: Any = SimpleNamespace(Unpickler=ShellUnpickler, load=load_shells, __name__="shells")
"""Stands for the module `pickle` where `torch.load` asks for one."""
