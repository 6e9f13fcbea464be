"""The speed of the models on a GPU: python -m benchmarks.gpu (make benchmark-gpu)

1. Measure two limits: a matrix product, and a copy inside the device's memory.
2. In the same run, time one member of klue/roberta-large's shape in PyTorch and in ONNX Runtime, by rows and
   length and on rows of mixed length. Random weights are enough for speed.
3. Time an ensemble of five in the serving code and over HTTP, and then the same for --bundle.

Tokens and operations are counted without padding, so a way to run that computes padding is slower.
`--device cpu --shape tiny` tries the benchmark out where there is no GPU.
"""

import sys

from benchmarks.rows import add_rows, draw_rows
from loadtest.command import add_bundle, add_connections, add_output, conclude, make_parser


def main(argv: list[str] | None = None) -> int:
    parser = make_parser("benchmarks.gpu", "Time the models on a GPU.", "--bundle bundles/default")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="device to time (default: cuda)"
    )
    parser.add_argument(
        "--shape",
        choices=("large", "tiny"),
        default="large",
        help="size of the random member (default: large)",
    )
    parser.add_argument(
        "--members", type=int, default=5, help="members of that size in the ensemble (default: 5)"
    )
    add_bundle(parser)
    add_rows(parser, count=512)
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="least seconds for one batch (default: 0.5)"
    )
    parser.add_argument(
        "--http-seconds", type=float, default=6.0, help="seconds of one measurement over HTTP (default: 6)"
    )
    parser.add_argument("--tuning-s", type=float, default=7.0, help="KORE_TUNING_S for --bundle (default: 7)")
    add_connections(parser, 16, 64, 256)
    add_output(parser, "gpu.json")
    arguments = parser.parse_args(argv)
    from engine.devices import gpus
    from engine.settings import DEFAULT_BUNDLE

    if arguments.device == "cuda" and not gpus():
        print("benchmarks.gpu: this machine has no GPU; try --device cpu --shape tiny", file=sys.stderr)
        return 2
    from benchmarks.gpu.study import GpuOptions, study

    given = vars(arguments)
    given["bundle"] = given["bundle"] or DEFAULT_BUNDLE
    given["rows"] = draw_rows(given["rows"], given.pop("count"))
    return conclude("gpu", *study(GpuOptions(**given)))


if __name__ == "__main__":
    sys.exit(main())
