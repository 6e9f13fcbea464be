"""A load test with gates: python -m loadtest [PROFILE]

1. Start the server, unless there is a `--url`.
2. Measure the saturation if the profile's rates are shares of it.
3. Play the profile's stages with Locust.
4. Measure the saturation again: a spike below it would be none.
5. Compare the figures with the gates of loadtest/gates.yaml.

Writes report.html, Locust's own locust.html, summary.json and requests.jsonl. Exits with 0 if all gates hold,
1 if one is broken or the run failed, 2 for wrong options.
"""

import json
import sys
from dataclasses import asdict

from loadtest.bodies import mean_examples
from loadtest.command import conclude
from loadtest.figures import check_sent, check_spike, describe_late_sends, stage_figures, table
from loadtest.options import LoadTestOptions, load_test
from loadtest.play import play
from loadtest.report import LoadTestReport


def main(argv: list[str] | None = None) -> int:
    description = "Play a profile of the gates file with Locust, and hold its gates."
    return load_test(run, argv, "loadtest", description, "mixed --url http://127.0.0.1:8000", folder=".")


def run(options: LoadTestOptions) -> int:
    """Play the profile; returns 0 if its gates hold, else 1."""
    profile = options.profile
    with options.server() as url:
        saturation = (
            (options.saturation or options.measure_saturation(url)) if profile.needs_saturation else None
        )
        stages = [stage.plan(saturation) for stage in profile.stages]
        if saturation:
            print(f"saturation: {saturation:.1f} examples/s", file=sys.stderr)
        print(
            "stages: " + ", ".join(f"{stage.name} {stage.seconds:g} s at {stage.rate}/s" for stage in stages),
            file=sys.stderr,
        )
        outcomes = play(url, profile.traffic, stages, options.rows, options.output)
        saturations = [saturation, options.measure_saturation(url)] if saturation else []
    figures = {name: stage_figures(found) for name, found in outcomes.items()}
    lateness_s = [outcome.late_s for found in outcomes.values() for outcome in found]
    print(f"\n{table(figures)}\n{describe_late_sends(lateness_s)}\n", file=sys.stderr)
    promises = profile.check(figures)
    for stage, planned in zip(profile.stages, stages, strict=True):
        if stage.gated:
            due = planned.rate * planned.seconds / mean_examples(options.bodies)
            sent = check_sent(figures[stage.name], due)
            promises |= {f"{stage.name}: {text}": kept for text, kept in sent.items()}
        if stage.load and stage.load > 1:
            promises |= check_spike(stage.name, figures[stage.name], max(saturations))
    summary = {
        "traffic": profile.traffic,
        "saturation_examples_per_s": [round(each, 1) for each in saturations],
        "stages": [{**asdict(stage), **asdict(figures[stage.name])} for stage in stages],
        "gates": promises,
    }
    status = conclude(f"loadtest {options.name}", summary, promises)
    document = {"profile": options.name, "kept": status == 0, **summary}
    (options.output / "summary.json").write_text(
        json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    report = LoadTestReport(options.name, promises, stages, figures, outcomes, saturations)
    (options.output / "report.html").write_text(report.render(), encoding="utf-8")
    print(f"wrote report.html and summary.json to {options.output}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
