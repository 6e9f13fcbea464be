"""Training processes of a study: several at a time, each with its share of the cores."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from engine.cores import available_cores
from training.errors import RunFailed
from training.run.record import CHECKPOINTS, FINISHED, is_finished


class StudyRuns:
    """Runs commands of this room in processes, `jobs` at a time."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._processes: list[subprocess.Popen[bytes]] = []
        self._locks: dict[Path, threading.Lock] = defaultdict(threading.Lock)

    def finish(self, output: Path, command: Sequence[str]) -> dict[str, Any]:
        """The metrics of the run in a folder. The command runs first, unless the run is finished.

        If another thread runs this folder's command already, the call waits for it.

        Raises:
            RunFailed: the process ended with another status than 0.
        """
        with self._locks[output]:
            if not is_finished(output):
                self._run(output, command)
        shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
        metrics: dict[str, Any] = json.loads((output / FINISHED).read_bytes())
        return metrics

    def each(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Do all tasks. If one fails, the running processes are stopped, and the error is raised."""
        with ThreadPoolExecutor(self._jobs) as threads:
            futures = [threads.submit(task) for task in tasks]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for process in self._processes:
                    process.terminate()
                raise

    def _run(self, output: Path, command: Sequence[str]) -> None:
        output.mkdir(parents=True, exist_ok=True)
        print(f"training.study: {output}", file=sys.stderr)
        cores = {"OMP_NUM_THREADS": str(max(1, available_cores() // self._jobs))}
        with (log := output / "log.txt").open("ab") as lines:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], stdout=lines, stderr=lines, env=os.environ | cores
            )
            self._processes.append(process)
            if status := process.wait():
                raise RunFailed(f"{output}: the run ended with status {status}; its log is {log}")
