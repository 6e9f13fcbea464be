"""A new bundle is lost while it loads: it is refused in one plain line, and the old one goes on."""

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import rewrite
from servers import ASKED, post, running

import models.bundle
import models.bundle_encoder
import models.ensemble
from api.service import RelationService
from api.settings import Settings
from engine.pool import Pool
from models.example import Example


def delete(bundle: Path) -> None:
    shutil.rmtree(bundle)


def lock(bundle: Path) -> None:
    """Take every permission on the folder away."""
    bundle.chmod(0)


def permissions_bind() -> bool:
    """Whether this user is bound by permissions; root usually is not."""
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0)
        return not os.access(file.name, os.R_OK)


bound = pytest.mark.skipif(not permissions_bind(), reason="permissions do not bind this user")


@pytest.mark.parametrize("lose", [delete, pytest.param(lock, marks=bound)])
@pytest.mark.parametrize(
    ("module", "step"),
    [(models.bundle, "_sha256"), (models.bundle_encoder, "check_size"), (models.ensemble, "_classifiers")],
    ids=["its sums are checked", "its tokenizer is read", "its graphs are read"],
)
def test_a_bundle_that_is_lost_while_it_loads_is_refused_and_the_old_one_goes_on(
    module: Any,
    step: str,
    lose: Callable[[Path], None],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    current, lost = tmp_path / "current", Path(shutil.copytree(tiny_bundle, tmp_path / "lost"))
    rewrite(lost, lambda manifest: manifest.update(max_length=manifest["max_length"] - 1))
    current.symlink_to(tiny_bundle)
    healthy = getattr(module, step)

    def lose_first(*arguments: Any, **options: Any) -> Any:
        if os.access(lost, os.R_OK):
            lose(lost)
        return healthy(*arguments, **options)

    async def reload() -> None:
        service = RelationService(Settings(bundle=current, tuning_s=0), pytest.fail)
        await service.load()
        served = service.pool()
        before = await answer(served)
        current.unlink()
        current.symlink_to(lost)
        monkeypatch.setattr(module, step, lose_first)
        with caplog.at_level(logging.INFO, "kore"):
            await service.swap()
        monkeypatch.undo()
        assert service.last_swap is not None
        assert service.last_swap.outcome == "refused"
        assert str(lost) in service.last_swap.reason
        (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert "\n" not in line.getMessage()
        assert line.exc_info is None
        assert service.pool() is served
        assert np.allclose(await answer(served), before)
        await service.close()

    asyncio.run(reload())


async def answer(pool: Pool) -> np.ndarray[Any, Any]:
    rows = pool.encode(Example.from_row(ASKED))
    return (await pool.predict(rows, time.monotonic() + 60)).predictions[0].probabilities


def test_a_served_bundle_that_is_deleted_answers_on(tiny_bundle: Path, tmp_path: Path) -> None:
    served = Path(shutil.copytree(tiny_bundle, tmp_path / "served"))
    with running(served, "loadtest.faulty_server") as server:
        before = post(server.client, ASKED).json()
        delete(served)
        assert post(server.client, ASKED).json() == before
        server.order("fail 1")
        assert post(server.client, ASKED).status_code == 503
        server.logged("could not be loaded anew; the old sessions go on")
        assert post(server.client, ASKED).json() == before
