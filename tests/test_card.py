"""The model card: the figures of a bundle as Markdown, with metadata that model hubs read."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from export.card import main as card
from export.verify import main as verify
from models.bundle import Bundle


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def table(text: str, heading: str) -> list[list[str]]:
    lines = text.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][
        2:
    ]


def test_the_card_has_the_figures_of_the_bundle(
    bundle: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = tmp_path / "about.md"
    about.write_text("## Training\n\nA tiny model for tests.\n", encoding="utf-8")
    assert card([str(bundle), "--data", str(rows_file), "--about", str(about), "--licence", "mit"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (
        verify([str(bundle), "--data", str(rows_file)]) == 0
    )  # the sums hold, and the same rows give the same
    verified = json.loads(capsys.readouterr().out)
    text = (bundle / "README.md").read_text(encoding="utf-8")
    assert "A tiny model for tests." in text
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert (metadata["language"], metadata["license"]) == ("ko", "mit")
    metrics = metadata["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["value"] == round(written["micro_f1"], 2)
    rows = len(rows_file.read_text(encoding="utf-8").splitlines())
    assert sum(int(line[1].replace(",", "")) for line in table(text, "By relation")) == rows
    assert sum(int(line[1].replace(",", "")) for line in table(text, "By length")) == rows
    quality = {line[0]: line[2] for line in table(text, "Quality")}
    assert quality["every member votes on every row"] == f"{verified['micro_f1']:.2f}"


def test_rows_of_training_sentences_are_counted_apart(bundle: Path, rows_file: Path, tmp_path: Path) -> None:
    lines = rows_file.read_text(encoding="utf-8").splitlines()
    seen = {json.loads(line)["sentence"] for line in lines[:5]}
    train = tmp_path / "train.jsonl"
    train.write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    assert card([str(bundle), "--data", str(rows_file), "--train", str(train)]) == 0
    new = sum(json.loads(line)["sentence"] not in seen for line in lines)
    text = (bundle / "README.md").read_text(encoding="utf-8")
    assert f"| as served, rows whose sentence is in no training row | {new:,} |" in text


def test_a_missing_text_is_refused_and_the_bundle_stays(
    bundle: Path, rows_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        card([str(bundle), "--data", str(rows_file), "--about", "no-such-file.md"])
    assert ended.value.code == 2
    assert "no-such-file.md" in capsys.readouterr().err
    assert not (Bundle.open(bundle).path / "README.md").exists()
