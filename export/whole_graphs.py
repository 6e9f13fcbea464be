"""The members of a bundle as ordinary graphs from token ids to logits."""

import shutil
import tempfile
from pathlib import Path

import onnx

from export.stages import join
from export.weights import save
from models.bundle import Bundle, BundleRefused, ModelFile
from models.hub import BundlePlace
from models.precision import Device


def write_whole(place: BundlePlace, output: Path, device: Device) -> list[Path]:
    """Write a graph for each member of the bundle at `place` into the new folder `output`.

    Returns:
        The graphs, in the order of the members.

    Raises:
        BundleRefused: the bundle cannot be used, or has no graphs for the device.
        OSError: the folder exists already or cannot be written.
    """
    bundle = Bundle.open(place)
    if device not in bundle.devices():
        raise BundleRefused(f"bundle {place}: it has no graphs for {device}")
    output.mkdir(parents=True)
    written = []
    for member in bundle.manifest.members:
        files = [file for stage in bundle.manifest.chain(member) if (file := stage.file_for(device))]
        graphs = [_load(bundle.path, file) for file in files]
        graph = output / f"{member.name}.onnx"
        save(graphs[0] if len(graphs) == 1 else join(graphs), graph)
        written.append(graph)
    return written


def _load(bundle: Path, file: ModelFile) -> onnx.ModelProto:
    """A graph with its weights. They are copied, because onnx reads none through a symbolic link."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in filter(None, (file.path, file.weights)):
            shutil.copy(bundle / name, scratch)
        return onnx.load(str(Path(scratch, Path(file.path).name)))
