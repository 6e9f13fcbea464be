"""A thousand hostile files: each ends in results and rejects that account for all its rows, or in one plain
line. Never in a traceback."""

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scoring_files import as_csv, as_jsonl, lines_of

from loadtest.sentences import Row, make_rows
from scoring.__main__ import main

pytestmark = pytest.mark.usefixtures("engine")

FILES = 1000
ROWS = make_rows()[:40]
SPITEFUL = [
    "'",
    '"',
    ",",
    "'\"",
    "\\",
    "\\'",
    "{",
    "}",
    "[",
    "]",
    "\r",
    "\n",
    "\r\n",
    "\0",
    "\u2028",
    "\x85",
    "\x1a",
    "é",
    "é",
    "👩‍👩‍👧",
    "﻿",
    "NaN",
    "=",
]

Change = Callable[[bytes, random.Random], bytes]


def spiteful_rows(generator: random.Random) -> list[Row]:
    """Good rows, whose words hold what a parser trips over."""
    rows = []
    for row in generator.choices(ROWS, k=generator.randint(0, 6)):
        if generator.random() < 0.5:
            rows.append(row)
            continue
        subject, object_ = (
            "가" + "".join(generator.choices([*SPITEFUL, "나"], k=3)) + "다" for _ in range(2)
        )
        sentence = f"{subject} 은 {object_}"
        entities = [(subject, 0), (object_, len(subject) + 3)]
        rows.append(
            {
                "guid": generator.choice(["same", "other", '"', 7]),
                "sentence": sentence,
                "label": generator.choice(["no_relation", "x", 100]),
                "source": "own",
            }
            | {
                field: {"word": word, "start_idx": start, "end_idx": start + len(word) - 1, "type": "ORG"}
                for field, (word, start) in zip(("subject_entity", "object_entity"), entities, strict=True)
            }
        )
    return rows


def replaced(old: bytes, *new: bytes) -> Change:
    def change(data: bytes, generator: random.Random) -> bytes:
        return data.replace(old, generator.choice(new), generator.choice([1, 3, -1]))

    return change


def somewhere(insert: Callable[[random.Random], bytes]) -> Change:
    def change(data: bytes, generator: random.Random) -> bytes:
        place = generator.randint(0, len(data))
        return data[:place] + insert(generator) + data[place:]

    return change


def cut(data: bytes, generator: random.Random) -> bytes:
    return data[: generator.randint(0, len(data))]


def flipped(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.randint(1, 5) if data else 0):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


def doubled(data: bytes, generator: random.Random) -> bytes:
    return data + data


CHANGES: list[Change] = [
    cut,
    flipped,
    doubled,
    lambda data, _: data.replace(b"\n", b"\r\n"),
    lambda data, _: b"\xef\xbb\xbf" + data,
    lambda data, _: data.decode("utf-8", "replace").encode("cp949", "replace"),
    lambda data, _: data.decode("utf-8", "replace").encode("utf-16"),
    lambda data, _: data.decode("utf-8", "replace").encode("utf-8-sig") + "가나다".encode("cp949"),
    somewhere(
        lambda generator: generator.choice(
            [b"\0", b"\xff", b"\r", b"\n", b'"', b"'", b",", b"\\", b"[", b"]", b"{", b"}"]
        )
    ),
    somewhere(lambda generator: generator.randbytes(9)),
    somewhere(lambda generator: b"x" * generator.choice([200_000, 500_000])),
    somewhere(lambda generator: generator.choice([b"[", b"{", b'"', b"("]) * 20_000),
    replaced(b"start_idx", b"start", b"end_idx", b"start_idx\\ud800"),
    replaced(b"PER", b"DOG", b"", b"per", b"\xc3\x28"),
    replaced(b'"', b"'", b'""', b""),
    replaced(b",", b";", b"\t", b",,"),
    replaced(b"sentence", b"text", b"Sentence", b"sentence,sentence"),
    replaced(b"0", b"-1", b"99999999999999999999", b"1e999", b"NaN", b"null", b"1.0", b"9" * 5000),
    replaced(b"{", b"[", b"{{", b"__import__('os').abort(", b'{"a":'),
]


def hostile_file(generator: random.Random) -> tuple[str, bytes]:
    rows = spiteful_rows(generator)
    form = generator.choice(["json", "jsonl", "csv"])
    indent = generator.choice([None, 1])
    data = {
        "json": lambda: json.dumps(rows, ensure_ascii=False, indent=indent).encode(),
        "jsonl": lambda: as_jsonl(rows),
        "csv": lambda: as_csv(rows),
    }[form]()
    for change in generator.choices(CHANGES, k=generator.choice([0, 1, 1, 2])):
        data = change(data, generator)
    if generator.random() < 0.2:
        data = gzip.compress(data, 1)
        if generator.random() < 0.7:
            data = generator.choice([cut, flipped, doubled])(data, generator)
    ending = generator.choice([f".{form}", f".{form}", ".txt", ".json", ".jsonl", ".csv"])
    return f"rows{ending}", data


def judge(status: int, out: str, err: str, folder: Path) -> str:
    """Whether a run ended as promised; says how it ended."""
    assert "Traceback" not in err
    assert "Warning" not in err
    output, rejects = folder / "out.jsonl", folder / "out.jsonl.rejects.jsonl"
    if status == 2:
        (line,) = err.splitlines()
        assert line.startswith("scoring: ")
        assert out == ""
        assert len(list(folder.iterdir())) == 1
        return "refused"
    summary: dict[str, Any] = json.loads(out)
    assert status == (1 if summary["broken"] or (summary["rows"] and not summary["scored"]) else 0)
    assert summary["rows"] == summary["scored"] + summary["rejected"]
    assert len(lines_of(output)) == summary["scored"]
    listed = lines_of(rejects) if rejects.exists() else []
    assert len(listed) == summary["rejected"]
    numbers = [reject["row"] for reject in listed]
    assert numbers == sorted(set(numbers))
    assert all(reject["reason"] for reject in listed)
    (source,) = folder.glob("rows.*")
    data = source.read_bytes()
    if summary["input_form"] == "jsonl" and summary["encoding"] == "utf-8" and data[:2] != b"\x1f\x8b":
        lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert summary["rows"] == sum(bool(line.strip()) for line in lines), "one outcome for each line"
    return "broken" if summary["broken"] else "rejects" if listed else "clean"


@pytest.mark.slow
def test_a_thousand_hostile_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a minute of waiting for the disk; test_scoring_resume.py checks what reaches it, and when
    monkeypatch.setattr(os, "fsync", lambda _: None)
    ends: dict[str, int] = {}
    for seed in range(FILES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        name, data = hostile_file(random.Random(seed))
        (folder / name).write_bytes(data)
        try:
            status = main([str(folder / name), str(folder / "out.jsonl"), "--window", "3"])
            captured = capsys.readouterr()
            end = judge(status, captured.out, captured.err, folder)
        except BaseException:
            print(f"seed {seed}, {name}")
            raise
        ends[end] = ends.get(end, 0) + 1
    assert all(ends[end] > FILES // 50 for end in ("refused", "broken", "rejects", "clean")), ends


@pytest.mark.parametrize("seed", range(40))
def test_a_good_row_survives_a_bad_neighbour(seed: int, tmp_path: Path) -> None:
    """What is wrong with one line never costs another one: the lines around it are scored whatever stands
    between."""
    generator = random.Random(seed)
    bad = generator.choice(CHANGES[8:])(as_jsonl(ROWS[:1]).strip(), generator).replace(b"\n", b"")
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(ROWS[1:3]) + bad + b"\n" + as_jsonl(ROWS[3:5]))
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]) == 0
    neighbours = [row["guid"] for row in ROWS[1:5]]
    assert [
        line["guid"] for line in lines_of(tmp_path / "out.jsonl") if line.get("guid") in neighbours
    ] == neighbours
