"""Upload a bundle with its model card to the Hugging Face hub, where every --bundle can name it.

It needs only the packages that serving installs, and HF_TOKEN with the right to write. The repository is made
if it does not exist, and then holds this bundle's files only: the hub must not change or add one.

Example:
  HF_TOKEN=hf_... python -m export.push bundles/mine owner/name --private
  python -m api --bundle hf://owner/name
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from export.command import ExportParser
from export.errors import ExportFailed
from models.hub import REPOSITORY, SCHEME, explain


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export.push", __doc__)
    parser.add_bundle_folder()
    parser.add_argument("repository", type=_repository, metavar="OWNER/NAME", help="repository on the hub")
    parser.add_argument(
        "--private", action="store_true", help="make a new repository private; an old one stays as it is"
    )
    parser.add_argument(
        "--revision",
        metavar="BRANCH",
        help="branch to write; it is made if it does not exist (default: main)",
    )
    given = parser.parse_args(argv)
    return parser.run(lambda: _push(given.bundle, given.repository, given.private, given.revision))


def _push(path: Path, repository: str, private: bool, revision: str | None) -> dict[str, Any]:
    from models.bundle import CARD, Bundle

    bundle = Bundle.open(path)
    if not (bundle.path / CARD).is_file():
        raise ExportFailed(
            f"bundle {path}: it has no card ({CARD}); write one: "
            f"python -m export.card {path} --data ROWS.jsonl --licence ID"
        )
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            hub.create_branch(repository, branch=revision, exist_ok=True)
        # A file that is left of an earlier bundle is in no sums: the download would be refused.
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=bundle.path,
            revision=revision,
            delete_patterns="*",
            commit_message=f"Bundle {bundle.manifest.name}",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ExportFailed(f"{SCHEME}{repository}: {explain(error)}") from None
    return {"bundle": str(path), "address": f"{SCHEME}{repository}@{commit.oid}"}


def _repository(text: str) -> str:
    if not re.fullmatch(REPOSITORY, text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a repository; write owner/name")
    return text


if __name__ == "__main__":
    sys.exit(main())
