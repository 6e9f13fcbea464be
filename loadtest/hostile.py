"""Ten thousand hostile requests, with good ones at the same time: python -m loadtest.hostile

Promises: the server never answers 500, never hangs, and never answers about a span that the rules refuse.
Every good request at the same time is answered rightly.
"""

import asyncio
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from unicodedata import normalize

import httpx

from loadtest.command import add_bundle, conclude, make_parser
from loadtest.connection import HttpClient, Target
from loadtest.idle import allow_open_files, idle_trial
from loadtest.outcomes import RIGHT, Outcome, by_result
from loadtest.server import ServerProcess, running
from loadtest.traffic import closed_loop

ALLOWED = {200, 400, 413, 415, 422, 429, 431, 504}
"""The statuses that /relations promises; 400 is the HTTP parser's, for bytes that are not HTTP."""
HANG_S = 40.0
"""Longer than the server's own deadline of 30 s: until then an answer can still come."""
GOOD_CONNECTIONS = 4


def span_is_honest(asked: dict[str, Any]) -> bool:
    """The rule on spans, written here again so that the server is not its own judge."""
    spans, sent = [], asked["sentence"]
    sentence = normalize("NFC", sent)
    for found in asked.get("entities") or (asked["subject_entity"], asked["object_entity"]):
        start, end = found.get("start_idx"), found.get("end_idx")
        word = None if found.get("word") is None else normalize("NFC", found["word"])
        if start is None and end is None:
            if [sentence.startswith(word, place) for place in range(len(sentence))].count(True) != 1:
                return False
            before, span = sentence[: sentence.index(word)], word
        else:
            if not 0 <= start <= end < len(sent):
                return False
            cut = sent[: int(start)], sent[int(start) : int(end) + 1], sent[int(end) + 1 :]
            before, span, after = (normalize("NFC", part) for part in cut)
            if before + span + after != sentence or word not in (None, span):
                return False
        spans.append((len(before), len(before + span)))
    return all(first[1] <= second[0] for first, second in pairwise(sorted(spans)))


class HostileCaller:
    """Sends hostile requests to one server and records wrong answers."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=HANG_S, trust_env=False)
        self.statuses: Counter[int] = Counter()
        self.wrongs: list[str] = []
        self.slowest_s = 0.0

    def send(self, content: bytes, sent: dict[str, str]) -> None:
        began_s = time.monotonic()
        encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in sent.items()]
        try:
            answer = self.client.post("/relations", content=content, headers=encoded)
        except httpx.TimeoutException:
            self._wrong("hang", content)
            return
        except httpx.TransportError as error:
            # The server can close the connection while an oversized body is still being sent. Its 413 has
            # been written, but the sender does not always see it.
            oversized = len(content) > 4_000_000
            self.statuses[413 if oversized else 0] += 1
            if not oversized:
                self._wrong(f"{type(error).__name__}: {error}", content)
            return
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        self.statuses[answer.status_code] += 1
        if answer.status_code not in ALLOWED:
            self._wrong(f"status {answer.status_code}", content)
        elif "Traceback" in answer.text or 'File "' in answer.text:
            self._wrong("internals in the answer", content)
        elif answer.status_code == 200:
            asked, answered = json.loads(content), answer.json()
            examples = asked.get("examples", [asked])
            predictions = answered["predictions"] if "examples" in asked else [answered]
            if len(examples) != len(predictions) or not all(map(span_is_honest, examples)):
                self._wrong("an answer to an invalid span", content)
        elif answer.status_code == 422 and not all(
            fault["loc"] and fault["msg"] for fault in answer.json()["detail"]
        ):
            self._wrong("a 422 without a place", content)

    def send_raw(self, port: int, content: bytes, status: int | None = None) -> None:
        """Send the bytes of a client and close the sending side. An answer is required.

        Args:
            status: the only right one; None allows every status but 500.
        """
        with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                line = connection.recv(65536).partition(b"\r\n")[0]
            except TimeoutError:
                self._wrong("hang", content)
                return
            except ConnectionError as error:
                line = f"{type(error).__name__}".encode()
        said = line.split()[1:2]
        if not said or said == [b"500"] or (status is not None and said != [str(status).encode()]):
            self._wrong(f"answered {line!r}, expected {status or 'any status but 500'}", content)

    def _wrong(self, what: str, content: bytes) -> None:
        self.wrongs.append(f"{what}: {content[:300]!r}")
        print(self.wrongs[-1], file=sys.stderr)


@contextmanager
def good_traffic(target: Target, rows: list[dict[str, object]]) -> Iterator[list[Outcome]]:
    """Good callers in a thread during the block; their outcomes are in the list once the block has ended."""
    outcomes: list[Outcome] = []
    stop, loop = asyncio.Event(), asyncio.new_event_loop()

    async def call() -> None:
        async with HttpClient(target) as client:
            requests = [target.post("/relations", row) for row in rows]
            outcomes.extend(await closed_loop(client, requests, GOOD_CONNECTIONS, stop))

    thread = threading.Thread(target=lambda: loop.run_until_complete(call()))
    thread.start()
    try:
        yield outcomes
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def trial(server: ServerProcess, requests: int) -> tuple[dict[str, Any], dict[str, bool]]:
    # slow to import, and not needed for --help
    from hypothesis import HealthCheck, Phase, given, settings

    from loadtest.hostile_requests import CLIENTS, RAW, body, by_hand, headers, rows

    hostile = HostileCaller(server.url)
    expected = [hostile.client.post("/relations", json=row).json()["relation"] for row in rows]

    @settings(
        max_examples=requests,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(body, headers)
    def storm(content: bytes, sent: dict[str, str]) -> None:
        hostile.send(content, sent)

    with good_traffic(Target.parse(server.url), rows) as good:
        for content, sent in by_hand():
            hostile.send(content, sent)
        for content in RAW:
            hostile.send_raw(server.port, content)
        for content, status in CLIENTS:
            hostile.send_raw(server.port, content, status)
        storm()
    sent_in_all = sum(hostile.statuses.values())
    figures = {
        "hostile_requests": sent_in_all,
        "by_status": {str(status): count for status, count in sorted(hostile.statuses.items())},
        "slowest_s": round(hostile.slowest_s, 2),
        "wrong": hostile.wrongs[:10],
        "good_requests": len(good),
        "good_by_status": by_result(good),
    }
    promises = {
        "as many hostile requests as --requests": sent_in_all >= requests,
        "no 500, no hang, no wrong span": not hostile.wrongs,
        "every good request at the same time is answered rightly": bool(good)
        and all(one.result == RIGHT and one.relation == expected[one.row] for one in good),
    }
    return figures, promises


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "loadtest.hostile", "Send hostile requests and good ones together.", "--requests 500"
    )
    add_bundle(parser)
    parser.add_argument(
        "--requests", type=int, default=10_000, help="hostile requests (default: %(default)s)"
    )
    parser.add_argument("--idle", type=int, default=2000, help="idle connections (default: %(default)s)")
    parser.add_argument(
        "--idle-seconds", type=float, default=60, help="seconds with idle connections (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    allow_open_files()
    with running(arguments.bundle) as server:
        figures, promises = trial(server, arguments.requests)
        idle = idle_trial(Target.parse(server.url), arguments.idle, arguments.idle_seconds)
        for whole, part in zip((figures, promises), asyncio.run(idle), strict=True):
            whole.update(part)
    return conclude("hostile", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
