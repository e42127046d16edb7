"""Runs on the Hugging Face hub: hf:USER/REPO[@REVISION], as `mtl pack` makes and `hf upload` sends
them.

They stay in the hub's cache, SNAPSHOTS/COMMIT of models--USER--REPO, and nothing is written there.
Of a repository only JSON and safetensors are fetched: nothing that could be executed.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from mtlcli.errors import InputError, MtlError, RunError
from mtlcli.files import read_json
from mtlcli.runs.folder import FACTS, PACKED, PACKED_RECORD, RESULTS

PREFIX = "hf:"
WORD = r"[A-Za-z0-9_][\w.-]*"
FORM = re.compile(rf"hf:/{{0,2}}({WORD}/{WORD})(?:@((?!.*\.\.)\w[\w./-]*))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SNAPSHOTS, REPOSITORY = "snapshots", "models--"  # of the hub's cache


@dataclass(frozen=True, kw_only=True)
class HubName:
    """A run on the hub."""

    repo: str  # USER/REPO
    revision: str  # branch, tag, commit or pull request

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}@{self.revision}"


def is_name(path: Path) -> bool:
    """Whether a run's name is that of one on the hub."""
    return str(path).startswith(PREFIX)


def parse(path: Path) -> HubName:
    """The parts of hf:USER/REPO[@REVISION].

    Raises:
        InputError: it is not of this form.
    """
    found = FORM.fullmatch(str(path))
    if not found:
        raise InputError(
            f"{path}: a run on the hub is named hf:USER/REPO or hf:USER/REPO@REVISION."
        )
    return HubName(repo=found[1], revision=found[2] or "main")


def fetch(path: Path, *, weights: bool = True, quiet: bool = False) -> Path:
    """The folder of a run on the hub, in the hub's cache.

    Args:
        path: its name.
        weights: whether its network is wanted, and not the record alone.
        quiet: no progress bar.

    Raises:
        InputError: there is no such repository or revision, it needs a token, or holds no run.
        RunError: the hub cannot be reached, or does not send the whole file.
    """
    its = parse(path)
    record = obtain(its, PACKED_RECORD, quiet)
    if not read_json(record).keys() >= {"config", "dataset"}:
        raise InputError(
            f"{path} is no run of mtl: its {PACKED_RECORD} is another program's; `mtl pack` makes "
            "what this takes."
        )
    if weights:
        known = is_fixed(its) and find(its, PACKED)
        network = known or obtain(its, PACKED, quiet)
        if not known:
            obtain(its, RESULTS, quiet, needed=False)
        if network.parent != record.parent:
            raise RunError(f"{path} was changed while it was fetched: run the command again.")
        if not is_network(network):
            raise InputError(
                f"{path} is no run of mtl: its {PACKED} is another program's, or damaged."
            )
    return record.parent


def is_network(file: Path) -> bool:
    """Whether a whole safetensors file is what `mtl pack` writes, by its head."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            return FACTS in (tensors.metadata() or {})
    except (OSError, SafetensorError):
        return False


def is_fixed(its: HubName) -> bool:
    """Whether the name says a commit, whose files never change."""
    return COMMIT.fullmatch(its.revision) is not None


def find(its: HubName, file: str) -> Path | None:
    """A file of a repository in the cache; nobody is asked."""
    from mtlcli.data import hub

    return hub.find_cached(its.repo, file, its.revision)


def obtain(its: HubName, file: str, quiet: bool, needed: bool = True) -> Path:
    """A file of a repository, from the cache if that is known to be the same.

    Raises:
        InputError, RunError: as for `fetch`.
    """
    from huggingface_hub import errors

    from mtlcli.data import hub
    from mtlcli.data.mirror import MirrorError

    if is_fixed(its) and (cached := find(its, file)):
        return cached
    try:
        return hub.fetch(its.repo, file, its.revision, quiet=quiet).path
    except MirrorError as failure:
        reason, cause = str(failure), failure.__cause__
        if not needed:
            return Path(file)
        if isinstance(cause, errors.EntryNotFoundError):
            raise InputError(
                f"{PREFIX}{its.repo} is no run of mtl: it has no {file} at {its.revision}; "
                "`mtl pack` makes what this takes."
            ) from failure
        name = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
        refused = getattr(getattr(cause, "response", None), "status_code", None) in (401, 403)
        kind: type[MtlError] = InputError if refused or isinstance(cause, name) else RunError
        raise kind(f"{its}: {reason}.") from failure


def name_of(folder: Path) -> str | None:
    """hf:USER/REPO@COMMIT of a folder in the hub's cache, None for any other."""
    repo = repository(folder)
    return str(HubName(repo=repo, revision=folder.name)) if repo else None


def repository(folder: Path) -> str | None:
    """USER/REPO of a folder in the hub's cache, None for any other."""
    store = folder.absolute().parents[1].name if len(folder.absolute().parts) > 2 else ""
    if folder.absolute().parent.name != SNAPSHOTS or not store.startswith(REPOSITORY):
        return None
    return store.removeprefix(REPOSITORY).replace("--", "/")


def folder_name(folder: Path) -> Path:
    """Where below weights/ belongs what is found about a run of the cache: USER--REPO, and in it a
    folder for any revision but main.
    """
    own = Path((repository(folder) or folder.name).replace("/", "--"))
    refs = folder.absolute().parents[1] / "refs"
    here = [r for r in refs.rglob("*") if r.is_file() and r.read_text().strip() == folder.name]
    names = sorted(ref.relative_to(refs).as_posix() for ref in here)
    if "main" in names:
        return own
    return own / (names[0].replace("/", "--") if names else folder.name)
