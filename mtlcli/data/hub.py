"""A file of a repository on the Hugging Face hub, fetched by the hub's own library.

So its cache, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN mean what they mean everywhere. The
library reads them when it is imported, which is therefore left to the functions.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlcli.data.download import checksums
from mtlcli.data.mirror import MirrorError, reason_of

SHA256 = re.compile(r"[0-9a-f]{64}")  # an ETag of large files; that of small ones is git's sha1
BUSY = (408, 429, 500, 502, 503, 504)  # status of a hub that may answer soon
PAUSES = (1.0, 4.0)  # seconds before it is asked again


@dataclass(frozen=True, kw_only=True)
class Cached:
    """A whole file in the hub's cache."""

    path: Path
    revision: str  # the commit it is of


def fetch(repo: str, path: str, revision: str, *, quiet: bool = False) -> Cached:
    """The file, from the hub or from its cache, and verified where the hub tells its sha256.

    Args:
        repo: OWNER/NAME.
        path: of the file, at the root of the repository.
        revision: branch, tag, commit or pull request.
        quiet: no progress bar.

    Raises:
        MirrorError: it cannot be had, or its bytes are not those the hub tells of; such bytes are
            deleted.
    """
    from huggingface_hub import hf_hub_download

    failure, told = None, None
    with silent_library():
        try:
            told = ask_etag(repo, path, revision)
        except Exception as error:  # of many kinds, the library's and of those below it
            failure = error
        try:
            found = hf_hub_download(
                repo, path, revision=revision, local_files_only=failure is not None,
                tqdm_class=silent_bar() if quiet else None,
            )  # fmt: skip
        except Exception as error:
            raise MirrorError(explain_refusal(failure or error)) from (failure or error)
    verify(Path(found), told)
    return Cached(path=Path(found), revision=Path(found).parent.name)


def find_cached(repo: str, path: str, revision: str) -> Path | None:
    """The file if it is in the cache; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, path, revision=revision)
    return Path(found) if isinstance(found, str) else None


def list_cached(owner: str) -> dict[str, Path]:
    """The repositories of an owner that hold files in the cache, each with its folder."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, ValueError):  # a file is no cache
        return {}
    found = {r.repo_id: Path(r.repo_path) for r in repos if r.nb_files}
    return {name: found[name] for name in sorted(found) if name.startswith(f"{owner}/")}


def ask_etag(repo: str, path: str, revision: str) -> str | None:
    """The file's ETag on the hub. A busy hub is asked again, one that cannot be reached is not; the
    library would ask either five times more, over 23 seconds.

    Raises:
        MirrorError: what answers is no hub.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    for pause in (*PAUSES, None):
        try:
            metadata = get_hf_file_metadata(hf_hub_url(repo, path, revision=revision))
            break
        except errors.HfHubHTTPError as error:
            if pause is None or error.response.status_code not in BUSY:
                raise
            time.sleep(pause)
    if metadata.commit_hash is None or metadata.etag is None:
        raise MirrorError("what answers is no Hugging Face hub (HF_ENDPOINT, or a proxy)")
    return metadata.etag


def verify(path: Path, told: str | None) -> None:
    """Compare the bytes with the ETag, which is also the name under which the cache keeps them.

    Raises:
        MirrorError: they differ.
    """
    if told is None and path.is_symlink():
        told = Path(os.readlink(path)).name
    if told is None or not SHA256.fullmatch(told):
        return
    found = checksums(path)["sha256"]
    if found != told:
        kept = path.resolve()
        path.unlink()
        kept.unlink(missing_ok=True)
        raise MirrorError(f"its sha256 is {found}, the hub says {told}")


def explain_refusal(error: Exception) -> str:
    """The reason in a few words; the library's messages are of many lines."""
    from huggingface_hub import errors

    known = {
        errors.GatedRepoError: "the repository is gated: ask for access on its page, set HF_TOKEN",
        errors.RepositoryNotFoundError: "no such repository, or one that needs HF_TOKEN",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.OfflineModeIsEnabled: "not in the cache, and HF_HUB_OFFLINE is set",
        errors.EntryNotFoundError: "the repository has no such file",
    }
    for kind, reason in known.items():
        if isinstance(error, kind):
            return reason
    response = getattr(error, "response", None)
    if response is not None:
        advice = ", no access: see HF_TOKEN" if response.status_code in (401, 403) else ""
        return f"HTTP {response.status_code}{advice}"
    return reason_of(error)


@contextmanager
def silent_library() -> Iterator[None]:
    """No warnings of the library: what matters of a failure is in its error."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def silent_bar() -> Any:
    """The library's progress bar, never shown."""
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **(options | {"disable": True}))

    return Silent
