"""`mtl import-demt`: a checkpoint of DeMT's released code as a run of ours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtlcli import datasets, lookup, tasks
from mtlcli.backbones import _backbone as backbones
from mtlcli.backbones._pretrained import differences, enumerate_, size
from mtlcli.backbones._tensor_files import read_tensors
from mtlcli.backbones._weights import is_inside
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.files import write_json
from mtlcli.home import weights_dir
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import LAST, RECORD, make_run_folder
from mtlcli.runs.record import Record, now, versions
from mtlcli.systems import _settings as settings

RENAMED = (  # pattern in DeMT, name here; {i} is the place of a numbered task
    (r"head\.linear1\.", "decoder.projection."),
    (r"head\.task_fusion\.in_proj_", "decoder.interaction.attention.input."),
    (r"head\.task_fusion\.out_proj\.", "decoder.interaction.attention.output."),
    (r"head\.smlp\.", "decoder.interaction.mlp."),
    (r"head\.task_querys\.(\d+)\.in_proj_", "decoder.queries.blocks.{i}.attention.input."),
    (r"head\.task_querys\.(\d+)\.out_proj\.", "decoder.queries.blocks.{i}.attention.output."),
    (r"head\.smlp2\.(\d+)\.", "decoder.queries.blocks.{i}.mlp."),
    (r"head\.bottleneck\.(\w+)\.conv\.", "heads.{task}.bottleneck.0."),
    (r"head\.bottleneck\.(\w+)\.bn\.", "heads.{task}.bottleneck.1."),
    (r"head\.final_logits\.(\w+)\.", "heads.{task}.logits."),
)
MIXER = r"head\.defor_mixers\.(\d+)\.blocks\.0\."
SAMPLING = (  # inside the residual of a mixer
    (r"fn\.0\.get_offset\.p_conv\.", "spatial.0.correction."),
    (r"fn\.0\.get_offset\.opt\.", "spatial.0.offsets."),
    (r"fn\.0\.(?=weight|bias)", "spatial.0.mix."),
    (r"fn\.2\.", "spatial.2."),
)
CHANNEL_FIRST = ((r"0\.", "channel.0."), (r"2\.", "channel.2."), (r"3\.", ""))
SPACE_FIRST = ((r"1\.", "channel.0."), (r"3\.", "channel.2."), (r"0\.", ""))
UNUSED = {
    r"head\.defor_mixers\..*\.offset$": "built by the released code and never used",
    r"(criterion|metrics_dict)\.": "part of training, not of the network",
}
LIGHTNING = "model."


def mixes_space_first(names: Iterable[str]) -> bool:
    """Whether these are of the earlier release, whose mixers begin with the residual."""
    return any(re.match(MIXER + r"0\.fn\.", name) for name in names)


def our_name(theirs: str, order: Sequence[str], space_first: bool) -> str | None:
    """The name of a tensor of DeMT's head here; None if there is none."""
    mixer = re.match(MIXER, theirs)
    if mixer and int(mixer[1]) < len(order):
        rest = _replace(theirs[mixer.end() :], SPACE_FIRST if space_first else CHANNEL_FIRST)
        if rest and rest.startswith("fn."):
            rest = _replace(rest, SAMPLING)
        return f"decoder.mixers.{place(mixer[1], order)}.{rest}" if rest else None
    for pattern, target in RENAMED:
        found = re.match(pattern, theirs)
        if found:
            part = found[1] if found.groups() else ""
            if part.isdigit() and int(part) >= len(order):
                return None
            number = place(part, order) if part.isdigit() else 0
            return target.format(i=number, task=part) + theirs[found.end() :]
    return None


def task_order(heads: Sequence[str], known: Sequence[str]) -> list[str]:
    """The tasks of a file in the order in which DeMT numbers their mixers and query blocks: that of
    its heads, or where these are in alphabetical order, which old versions of torch brought them
    into, that of the dataset.
    """
    own = heads if list(heads) != sorted(heads) else known
    return [task for task in own if task in heads and task in known]


def place(number: str, order: Sequence[str]) -> int:
    """Where the task that DeMT numbers so stands among the names in order."""
    return sorted(order).index(order[int(number)])


def why_unused(name: str) -> str:
    """Why a tensor of the file has no place."""
    for pattern, reason in UNUSED.items():
        if re.match(pattern, name):
            return reason
    return "no counterpart here"


def _replace(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    for pattern, target in rules:
        found = re.match(pattern, name)
        if found:
            return target + name[found.end() :]
    return None


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of a checkpoint."""

    folder: Path
    config: RunConfig
    fitted: int  # tensors of our network that the file filled
    tensors: int  # of our network
    missing: tuple[str, ...]  # of ours; they stay random
    left_out: Mapping[str, str]  # tensor of the file -> why it was not used

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self) | {"folder": str(self.folder), "config": self.config.to_json()}

    def text(self) -> str:
        """The report, a line for each outcome."""
        c = self.config
        lines = [
            f"Network: {c.system} on {c.backbone} for {c.dataset} ({', '.join(c.tasks)})",
            f"Fitted:  {self.fitted} of {self.tensors} tensors",
        ]
        if self.missing:
            lines.append(f"RANDOM:  not in the file: {enumerate_(self.missing)}")
        for reason in dict.fromkeys(self.left_out.values()):
            names = [name for name, why in self.left_out.items() if why == reason]
            lines.append(f"Unused:  {reason}: {enumerate_(names)}")
        return "\n".join([*lines, f"Run:     {self.folder}"])


def import_demt(file: Path, *, dataset: str | None = None, out: Path | None = None) -> Imported:
    """Write a run folder from a checkpoint of DeMT's code.

    The run has the released attention (see `mtlcli.systems.demt`), without which the weights mean
    nothing. What the file lacks stays random and is named in the report and in run.json.

    Args:
        file: written by PyTorch Lightning or `torch.save`.
        dataset: it was trained on; by default the one with its tasks and number of classes.
        out: run folder; by default weights/DATASET_BACKBONE_demt_imported.

    Raises:
        InputError: not such a checkpoint, or of a backbone or dataset that is not known here.
    """
    state = {k.removeprefix(LIGHTNING): v for k, v in read_tensors(file).items()}
    heads = dict.fromkeys(re.findall(r"^head\.final_logits\.(\w+)\.weight", "\n".join(state), re.M))
    if not heads or "head.linear1.0.weight" not in state:
        raise InputError(f"{file} is no checkpoint of DeMT: it has no head.linear1, final_logits.")
    name = dataset or dataset_of(state, tuple(heads), file)
    record = datasets.find(name)
    order = task_order(tuple(heads), record.tasks)
    if len(order) < len(heads):
        raise InputError(f"{file} predicts {', '.join(heads)}; {name} has {', '.join(order)}.")
    config = config_of(state, name, order, file)
    torch.manual_seed(config.seed)
    info = Info.from_json(describe(name, record))
    network = checkpoint.build_network(config, info)
    renamed, left_out = rename(state, config.backbone, order, config.settings["space_first"])
    fitting, reasons = fit(network, renamed)
    own = network.state_dict()
    network.load_state_dict(own | fitting)
    folder = make_run_folder(
        out or weights_dir() / f"{name}_{config.backbone}_demt_imported", fixed=out is not None
    )
    imported = Imported(
        folder=folder,
        config=config,
        fitted=len(fitting),
        tensors=len(own),
        missing=tuple(k for k in own if k not in fitting),
        left_out=left_out | reasons,
    )
    write(imported, file, network, info)
    return imported


def dataset_of(state: Mapping[str, Tensor], heads: Sequence[str], file: Path) -> str:
    """The dataset that has these tasks with as many classes as the heads have outputs.

    Raises:
        InputError: there is none, or more than one.
    """

    def outputs(task: str, classes: Sequence[str]) -> int:
        return tasks.named([task])[task].outputs(classes)

    fitting = []
    for name in lookup.names("datasets"):
        record = datasets.find(name)
        if all(
            task in record.tasks
            and outputs(task, record.classes.get(task, ()))
            == len(state[f"head.final_logits.{task}.weight"])
            for task in heads
        ):
            fitting.append(name)
    if len(fitting) != 1:
        found = f"fits {', '.join(fitting)}" if fitting else "fits no dataset known here"
        raise InputError(f"{file} predicts {', '.join(heads)}: that {found}; name it by --dataset.")
    return fitting[0]


def config_of(
    state: Mapping[str, Tensor], dataset: str, order: Sequence[str], file: Path
) -> RunConfig:
    """The run that the weights belong to."""
    chosen = {
        "width": len(state["head.linear1.0.weight"]),
        "interaction": "self",
        "query": "pixel",
        "space_first": mixes_space_first(state),
    }
    return RunConfig(
        dataset=dataset,
        tasks=tuple(order),
        system="demt",
        settings=settings.complete("demt", chosen),
        backbone=backbone_of(state, file),
        init=str(file),
        size=datasets.find(dataset).size,
    )


def backbone_of(state: Mapping[str, Tensor], file: Path) -> str:
    """The backbone that takes the file's `backbone.` tensors strictly.

    Raises:
        InputError: there is none.
    """
    inside = {k: v for k, v in state.items() if is_inside(k)}
    for name in lookup.names("backbones"):
        backbone = backbones.find(name)
        converted = backbone.convert(inside)
        with torch.device("meta"):
            own = backbone.build().state_dict()
        if converted and not differences(own, converted):
            return name
    raise InputError(f"{file} has a backbone other than {', '.join(lookup.names('backbones'))}.")


def rename(
    state: Mapping[str, Tensor], backbone: str, order: Sequence[str], space_first: bool
) -> tuple[dict[str, tuple[str, Tensor]], dict[str, str]]:
    """Our names -> (DeMT's name, tensor), and DeMT's names without counterpart -> why."""
    inside = backbones.find(backbone).convert({k: v for k, v in state.items() if is_inside(k)})
    assert inside, "backbone_of has converted it before"
    renamed = {f"backbone.{k}": (f"backbone.{k}", v) for k, v in inside.tensors.items()}
    left_out = {}
    for theirs, tensor in state.items():
        if is_inside(theirs):
            continue
        ours = our_name(theirs, order, space_first)
        if ours is None:
            left_out[theirs] = why_unused(theirs)
        else:
            renamed[ours] = (theirs, tensor)
    return renamed, left_out


def fit(
    network: nn.Module, renamed: Mapping[str, tuple[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that a network takes, and DeMT's names of the others -> why."""
    own = network.state_dict()
    fitting, reasons = {}, {}
    for ours, (theirs, tensor) in renamed.items():
        if ours not in own:
            reasons[theirs] = "no counterpart here"
        elif own[ours].shape != tensor.shape:
            reasons[theirs] = f"is {size(tensor)}, {ours} is {size(own[ours])}"
        else:
            fitting[ours] = tensor
    return fitting, reasons


def describe(name: str, record: Any) -> dict[str, Any]:
    """What a run remembers of its dataset, from the dataset's record."""
    fields = ("title", "size", "tasks", "kinds", "classes", "palettes", "options")
    return {"name": name, **{field: getattr(record, field) for field in fields}}


def write(imported: Imported, file: Path, network: nn.Module, dataset: Info) -> None:
    """Write run.json and last.pt."""
    record = Record(
        config=imported.config,
        parameters=sum(p.numel() for p in network.parameters()),
        dataset=dataset,
        started=now(),
        versions=versions(),
        imported_from=str(file),
        fitted=imported.fitted,
        tensors=imported.tensors,
        missing=list(imported.missing),
        left_out=dict(imported.left_out),
    )
    write_json(imported.folder / RECORD, record.to_json())
    checkpoint.save(
        imported.folder / LAST,
        config=imported.config.to_json(),
        dataset=dataset.to_json(),
        iteration=0,
        network=network.state_dict(),
    )
