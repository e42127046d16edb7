"""A checkpoint: all that rebuilds a network and the preprocessing it was trained with.

It is torch's archive while a run is trained, and a safetensors file once it is packed, in whose
metadata stands what is not a tensor.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtlcli import lookup, tasks
from mtlcli.backbones import _backbone as backbones
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError, RunError, in_one_line
from mtlcli.files import replacing
from mtlcli.ops.devices import pick_device
from mtlcli.runs.config import RunConfig, resolution
from mtlcli.runs.folder import CRC32, FACTS, crc32_of_tensors
from mtlcli.runs.foreign import describe, is_exported
from mtlcli.runs.names import file_of, pin, title
from mtlcli.runs.scale import DepthScale, read_scales
from mtlcli.systems import _settings as settings
from mtlcli.tasks._task import Task

if TYPE_CHECKING:
    from mtlcli.runs.record import Record

FORMAT = 1  # of the checkpoint; raised when an older program could not read a newer file
SAFETENSORS = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network with what belongs to it."""

    path: Path
    network: nn.Module
    config: RunConfig
    dataset: Info  # that it was trained on
    iteration: int
    takes: tuple[int, int] | None = None  # height and width of all pictures, of an exported file
    scales: Mapping[str, DepthScale] = field(default_factory=dict)  # task -> see `DepthScale`
    inside: Mapping[str, DepthScale] = field(default_factory=dict)  # those an exported file applies

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """What it predicts, by name, scaled as the run says."""
        return {
            name: replace(task, decode=partial(decode_scaled, task.decode, self.scales[name]))
            if name in self.scales
            else task
            for name, task in tasks_of(self.config.tasks, self.dataset).items()
        }

    @cached_property
    def record(self) -> "Record":
        """What run.json beside it says, or else what it knows of its run itself."""
        from mtlcli.runs.record import Record, find_record

        own = Record(config=self.config, dataset=self.dataset)
        beside = find_record(file_of(self.path)) or own
        return replace(beside, config=self.config, dataset=self.dataset)

    @property
    def title(self) -> str:
        """What it is called: the name of an exported file or of its run, without its place."""
        file = file_of(self.path)
        return file.name if is_exported(file) else title(file.absolute().parent)

    @property
    def applied(self) -> dict[str, DepthScale]:
        """Task -> the scale of its maps, whoever applies it."""
        scales = {**self.scales, **self.inside}
        return {task: scale for task, scale in scales.items() if task in self.tasks}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell of its maps: which are scaled, and how."""
        return tuple(
            f"{task} is scaled as `mtl eval --fit-scale` found: {scale}"
            for task, scale in self.applied.items()
        )

    @property
    def unscaled(self) -> "Trained":
        """The same as it was trained, to be compared with the labels of its dataset."""
        return replace(self, scales={})

    @property
    def scenes(self) -> str:
        """What the pictures showed that it learnt from, in a few words; "" where nobody says."""
        name = self.config.dataset
        if name not in lookup.names("datasets"):
            return ""
        said: str = lookup.load("datasets", name).DATASET.scenes
        return said

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(chain(self.network.parameters(), self.network.buffers())).device

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it was trained on."""
        return self.takes or self.config.size or self.dataset.size

    def resolution(self, shown: Info) -> tuple[float, float]:
        """Working pixels along y and x per pixel of a dataset file's pictures: as in training, also
        where all are now stored larger or smaller than all were then. (NYUD-v2's other geometry is
        no such case: its pictures are wider, but a pixel shows as much.)
        """
        then, now = self.dataset, shown
        if (
            then.shape
            and now.shape
            and np.allclose(
                np.divide(now.shape, then.shape), np.divide(now.size, then.size), rtol=0.01
            )
        ):
            return resolution(self.config, now.size)
        return resolution(self.config, then.size)


def decode_scaled(
    decode: Callable[[torch.Tensor], torch.Tensor], scale: DepthScale, logits: torch.Tensor
) -> torch.Tensor:
    """What `decode` makes of logits, scaled."""
    return scale.factor * decode(logits) ** scale.exponent


def tasks_of(names: Iterable[str], dataset: Info) -> dict[str, Task]:
    """Tasks of a dataset by their names (raises InputError for what is none)."""
    return tasks.named(names, dataset.kinds, dataset.options)


def build_network(config: RunConfig, dataset: Info, backbone: nn.Module | None = None) -> nn.Module:
    """The network of a run, freshly initialised from torch's generator.

    Args:
        config: with all tasks named.
        dataset: of whose classes the network has outputs.
        backbone: with the weights it starts from; by default one with random weights.
    """
    channels = {
        name: task.outputs(dataset.classes.get(name, ()))
        for name, task in tasks_of(config.tasks, dataset).items()
    }
    system = lookup.load("systems", config.system)
    backbone = backbone or backbones.find(config.backbone).build()
    try:
        network: nn.Module = system.build(channels, backbone, **config.settings)
    except (MemoryError, OverflowError) as error:
        raise InputError(_too_large(config)) from error
    except RuntimeError as error:
        if "memory" not in str(error) and "overflow" not in str(error).lower():
            raise
        raise InputError(_too_large(config)) from error
    return network


def _too_large(config: RunConfig) -> str:
    settings = " ".join(f"--{n.replace('_', '-')} {v}" for n, v in config.settings.items())
    return f"A network of these settings does not fit into memory: {settings}."


def save(path: Path, **content: Any) -> None:
    """Write a checkpoint, whole or not at all; `content` is plain types and tensors (see `read`).

    Raises:
        RunError: it cannot be written.
    """
    try:
        with replacing(path) as file:
            torch.save({"format": FORMAT, **content}, file)
    except (OSError, RuntimeError) as error:
        raise RunError(
            f"Cannot write {path}: {error}. The previous checkpoint is untouched; free some disk."
        ) from error


def save_packed(path: Path, network: Mapping[str, Tensor], **facts: Any) -> None:
    """Write a checkpoint as safetensors; `facts` are plain types. Tensors share no memory. The form
    has no checksum, so that of the tensors is one of the facts.

    Raises:
        RunError: it cannot be written.
    """
    plain = io.BytesIO(to_safetensors(dict(network)))
    facts = {"format": FORMAT, CRC32: crc32_of_tensors(plain), **facts}
    try:
        with replacing(path) as file:
            file.write(to_safetensors(dict(network), {"format": "pt", FACTS: json.dumps(facts)}))
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error


def read_packed(path: Path) -> dict[str, Any]:
    """The inverse of `save_packed`; of another program's file the tensors alone."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
        return {**facts, "network": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, tensors on the CPU.

    Args:
        path: of the file, or the name of a run.

    Raises:
        InputError: no such file, a damaged one, not a checkpoint of this program, or of another
            format.
    """
    path = file_of(path)
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}. `mtl train` writes weights/RUN/last.pt.")
    if is_exported(path):
        raise InputError(
            f"{path} is an exported file, no checkpoint: `mtl visualize`, `eval` and `serve` take "
            "it; all else needs the run."
        )
    from mtlcli.runs.run import describe_damage, is_sound

    try:
        if not is_sound(path):  # torch writes checksums, and does not compare them
            raise ValueError(path)
        if path.suffix == SAFETENSORS:
            content = read_packed(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # what damaged bytes make of unpickling can be anything
        raise InputError(describe_damage(path)) from error
    if not isinstance(content, dict) or "format" not in content:
        raise InputError(f"{path} is not a checkpoint written by mtl: it is {describe(path)}.")
    if content["format"] != FORMAT:
        raise InputError(
            f"{path} has checkpoint format {content['format']}, this program reads {FORMAT}; "
            "use the version of mtl that wrote it, or train again."
        )
    return content


def load(path: Path, device: torch.device | str = "auto") -> Trained:
    """Rebuild the network of a checkpoint in evaluation mode.

    Args:
        path: checkpoint, run folder, or a file of `mtl export`, which stays on the CPU.
        device: where the network goes; a string is one of `mtlcli.ops.devices.pick_device`.

    Raises:
        InputError: see `read`; also when its weights do not fit the network of this version.
    """
    target, path = pick_device(device) if isinstance(device, str) else device, pin(path)
    if is_exported(file := file_of(path)) and file.is_file():
        from mtlcli.runs import exported

        return exported.load(file)
    content = read(path)
    config, dataset = facts_of(content, path)
    try:
        with WithoutRandomNumbers():
            network = build_network(config, dataset)
        network.load_state_dict(content["network"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = in_one_line(error)
        raise InputError(f"{path} does not fit this version of mtl ({reason}).") from error
    return Trained(
        path=path,
        network=network.to(target).eval(),
        config=config,
        dataset=dataset,
        iteration=int(content["iteration"]),
        scales=scales_beside(path),
    )


def scales_beside(path: Path) -> dict[str, DepthScale]:
    """What the run of a checkpoint says of its depths."""
    from mtlcli.runs.record import find_record

    record = find_record(file_of(path))
    return read_scales(record.scales if record else None)


def facts_of(content: Mapping[str, Any], path: Path) -> tuple[RunConfig, Info]:
    """The options of a checkpoint's run and what is known of its dataset.

    Args:
        content: of the checkpoint, see `read`.
        path: of it, for the error.

    Raises:
        InputError: they are not what this version writes, such as a name that is none, or it has no
            network.
    """
    try:
        int(content["iteration"])
        network = content.get("network")
        if not (isinstance(network, dict) and all(map(torch.is_tensor, network.values()))):
            raise InputError("it has no network")
        config, dataset = RunConfig.from_json(content["config"]), Info.from_json(content["dataset"])
        settings.complete(config.system, config.settings)
        return config, dataset
    except (
        InputError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError
    ) as error:  # fmt: skip
        reason = str(error).rstrip(".") if isinstance(error, InputError) else in_one_line(error)
        raise InputError(f"{path} does not fit this version of mtl ({reason}).") from error


class WithoutRandomNumbers(TorchFunctionMode):
    """Within it tensors are filled with zeros where random numbers would be drawn, which a network
    that gets its weights from elsewhere would spend seconds on. All else is computed, buffers that
    no file holds as well. (Zeros, for `trunc_normal_` draws until all numbers are in its range.)
    """

    RANDOM = (torch.Tensor.normal_, torch.Tensor.uniform_)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return args[0].zero_() if func in self.RANDOM else func(*args, **(kwargs or {}))
