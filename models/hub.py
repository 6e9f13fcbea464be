"""Bundles on the Hugging Face hub: `hf://owner/name@revision` in place of a folder.

1. Ask the hub for the commit of the revision: a branch, a tag or a commit; without it, the branch main.
2. Download the files of this commit that the cache (`HF_HOME`) does not have.
3. The commit's folder in the cache is the bundle. `Bundle.open` checks it like any other folder.

A private repository needs `HF_TOKEN`. If the hub does not answer, the cache is used, with a warning. With
`HF_HUB_OFFLINE=1` the hub is not asked.
"""

import logging
import re
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Final

from typing_extensions import TypeAliasType

BundlePlace = TypeAliasType("BundlePlace", Path | str)  # --help shows this name
"""Where a bundle is: a folder, or `hf://owner/name@revision`. An address stays text: a `Path` would write it
as `hf:/owner/name`."""

SCHEME: Final = "hf://"
REPOSITORY: Final = r"[\w.-]+/[\w.-]+"
ADDRESS: Final = re.compile(rf"{SCHEME}{REPOSITORY}(?:@\w[\w.-]*(?:/\w[\w.-]*)*)?", re.ASCII)

log = logging.getLogger("kore")


class HubFailed(Exception):
    """The hub refused, did not answer or broke off. The message is one line that says what to do."""


def on_hub(place: BundlePlace) -> bool:
    """Whether a bundle's place is an address of the hub."""
    return isinstance(place, str) and place.startswith(SCHEME)


def check(place: BundlePlace) -> None:
    """Check the form of an address; folders pass.

    Raises:
        ValueError: an address has another form.
    """
    if on_hub(place) and not ADDRESS.fullmatch(str(place)):
        raise ValueError(f"{place} is not an address of a bundle; write hf://owner/name@revision")


def pinned(place: BundlePlace, folder: Path) -> BundlePlace:
    """The place from which another machine gets the same bundle.

    Args:
        folder: of the bundle at `place`, as `Bundle.open` found it.
    """
    return f"{str(place).partition('@')[0]}@{folder.name}" if on_hub(place) else folder


def download(address: str) -> Path:
    """The folder of a bundle in the cache, complete unless the hub did not answer.

    Raises:
        HubFailed: there is no such repository or revision, or the download broke off, or the hub did not
            answer and the cache does not have this revision.
        ValueError: as `check`.
    """
    check(address)
    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    from huggingface_hub import snapshot_download  # takes a third of a second
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its own lines would have another form than our log.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                ignore_patterns=".gitattributes",  # the hub adds it
                local_files_only=not _reachable(repository, revision or None),
            )
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise HubFailed(explain(error)) from error


def _reachable(repository: str, revision: str | None) -> bool:
    """Whether the hub answers. Otherwise the cache is used: `snapshot_download` alone would use it without a
    warning, also for a token that is no longer valid.

    Raises:
        HfHubHTTPError: the hub refuses.
    """
    import requests  # huggingface_hub speaks HTTP with it
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
            raise
        reason = f"status {status}"
    except (requests.ConnectionError, requests.Timeout) as error:
        reason = type(error).__name__
    else:
        return True
    log.warning(
        "%s does not answer (%s); %s is taken from the cache, if it is there",
        constants.ENDPOINT,
        reason,
        repository,
    )
    return False


def explain(error: Exception) -> str:
    """What went wrong with the hub and what to do, on one line."""
    from huggingface_hub import constants, errors

    said = next(iter(str(error).strip().splitlines()), type(error).__name__)
    match error:
        case errors.RevisionNotFoundError():
            return "the repository has no such revision; name a branch, a tag or a commit after the @"
        case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return "this revision is not in the cache; download it once without HF_HUB_OFFLINE"
        case errors.LocalEntryNotFoundError():
            return f"{constants.ENDPOINT} does not answer, and this revision is not in the cache; try again"
        case errors.RepositoryNotFoundError() | errors.GatedRepoError():
            access = "if it is private or gated, set HF_TOKEN to a token that can read it"
            return f"{constants.ENDPOINT} shows no such repository; check its name, or {access}"
        case errors.HfHubHTTPError(response=response) if getattr(response, "status_code", 0) in (401, 403):
            return f"{constants.ENDPOINT} refuses this token; set HF_TOKEN to one with the right ({said})"
        case OSError(filename=str(name), strerror=str(reason)):
            return f"{name}: {reason}; HF_HOME must be a folder with room that this user can write"
    return f"{constants.ENDPOINT}: {said}; try again, what is complete is kept"
