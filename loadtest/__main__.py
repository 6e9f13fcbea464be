"""A load test with gates: python -m loadtest [PROFILE] [--url URL | --bundle PATH] [--gates FILE] [--rows FILE] [--output DIR]

Starts the server (unless there is a --url), measures its saturation where the profile's rates are shares of
it, plays the profile's stages with Locust, and holds the gates of loadtest/gates.yaml against what came.
Writes report.html, summary.json and requests.jsonl; exits with 0 if all gates hold, 1 if one is broken or the
run failed, 2 if it was asked for wrongly.
"""

import json
import sys
from dataclasses import asdict

from loadtest.bodies import mean_examples
from loadtest.figures import came, describe_late_sends, measure, table
from loadtest.options import Options, command
from loadtest.play import play
from loadtest.verdict import conclude


def main(argv: list[str] | None = None) -> int:
    return command(
        run,
        argv,
        "python -m loadtest",
        "Play a profile of loadtest/gates.yaml and hold its gates.",
        folder=".",
    )


def run(options: Options) -> int:
    """Play the profile; returns the exit status that its gates ask for."""
    profile = options.profile
    with options.server() as url:
        saturation = options.measure_saturation(url) if profile.needs_saturation else None
        stages = [stage.plan(saturation) for stage in profile.stages]
        if saturation:
            print(f"saturation: {saturation:.1f} examples/s", file=sys.stderr)
        print(
            "stages: " + ", ".join(f"{stage.name} {stage.seconds:g} s at {stage.rate}/s" for stage in stages),
            file=sys.stderr,
        )
        arrivals = play(url, profile.traffic, stages, options.rows, options.output)
    figures = {name: measure(found) for name, found in arrivals.items()}
    lateness_s = [arrival.late_s for found in arrivals.values() for arrival in found]
    print(f"\n{table(figures)}\n{describe_late_sends(lateness_s)}\n", file=sys.stderr)
    promises = profile.check(figures)
    for stage, planned in zip(profile.stages, stages, strict=True):
        if stage.gated:
            due = planned.rate * planned.seconds / mean_examples(options.bodies)
            promises |= {
                f"{stage.name}: {text}": kept for text, kept in came(figures[stage.name], due).items()
            }
    summary = {
        "traffic": profile.traffic,
        "saturation_examples_per_s": saturation and round(saturation, 1),
        "stages": [{**asdict(stage), **asdict(figures[stage.name])} for stage in stages],
        "gates": promises,
    }
    status = conclude(f"loadtest {options.name}", summary, promises)
    document = {"profile": options.name, "kept": status == 0, **summary}
    (options.output / "summary.json").write_text(
        json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    print(f"report.html and summary.json lie in {options.output}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
