"""The faults that the kit catches, and its false alarms, on both backends.

`python benchmarks/kit.py --out docs/testing.md` runs `check_distribution` on
the planted faults of the tests, then on right classes of users and forty of
TFP's distributions with several seeds, and writes its tables after the line
`<!-- kit -->` of that page. Times are seconds of all cores together.
"""

import argparse
import json
import logging
import os
import pathlib
import subprocess
import sys
import time
import warnings

TESTS = pathlib.Path(__file__).parents[1] / "tests"
MARK = "<!-- kit -->"
# The checks whose verdict depends on draws.
DRAWN = (
    "normalization",
    "moments",
    "entropy",
    "samples",
    "stein",
    "sample_moments",
    "independent_draws",
    "sample_gradients",
)


def measure(seeds, names, path):
    """All measurements on the running backend, written as JSON as they come."""
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.path.insert(0, str(TESTS))
    import planted_faults
    import right_targets
    import tfp_targets

    from tfp_vae.testing import CHECKS
    from tfp_vae.testing.battery import Battery

    found = {"faults": [], "right": [], "checks": len(CHECKS)}

    def save():
        pathlib.Path(path).write_text(json.dumps(found))

    for target, checks in planted_faults.FAULTS:
        name = planted_faults.name_of(target)
        if names and name not in names:
            continue
        skip = set(CHECKS) - checks
        report = Battery(target, max_examples=2, skip=skip).report()
        for check in sorted(checks):
            message = report.failures.get(check)
            print(f"{name:24} {check:18} {message or 'NOT CAUGHT'}")
            found["faults"].append((name, check, message))
        save()
    known = dict(tfp_targets.KNOWN)
    if os.environ["KERAS_BACKEND"] == "jax":
        for name, checks in tfp_targets.KNOWN_ON_JAX.items():
            known[name] = known.get(name, set()) | checks
    targets = [
        (planted_faults.name_of(c), c, o) for c, o in right_targets.USERS
    ]
    for kind, group in (("user", targets), ("TFP", tfp_targets.TFPS)):
        for name, target, options in group:
            if names and name not in names:
                continue
            start = time.process_time()
            battery = Battery(target, **options)
            failures = [dict(battery.report().failures)]
            spent = time.process_time() - start
            for seed in range(1, seeds):
                battery.reseeded(1000 * seed)
                battery.skip = set(CHECKS) - set(DRAWN)
                failures.append(dict(battery.report().failures))
            seen = set().union(*failures)
            true = seen & set(known.get(name, ()))
            row = {
                "kind": kind,
                "name": name,
                "seconds": spent,
                "true": sorted(true),
                "false": sorted(seen - true),
            }
            found["right"].append(row)
            print(f"{kind:4} {name:24} {spent:6.1f} s", row["true"], end=" ")
            print("FALSE:" if row["false"] else "", row["false"] or "")
            for failed in failures:
                for check in row["false"]:
                    print("   ", check, failed.get(check, "")[:1000])
            sys.stdout.flush()
            save()


def shortened(message, length=150):
    """A message in one cell of a table."""
    if message is None:
        return "not caught"
    # Brackets would become links.
    text = " ".join(message.split()).replace("|", "\\|").replace("[", "\\[")
    return text if len(text) <= length else text[: length - 3] + "..."


def tables(results):
    """The tables, as lines of Markdown."""
    first = next(iter(results.values()))
    lines = ["", "| fault | check | what it says |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | `{check}` | {shortened(message)} |"
        for name, check, message in first["faults"]
    ]
    lines += [
        "",
        "| backend | faults caught | right targets blamed | CPU seconds, "
        "median and most |",
        "| --- | --- | --- | --- |",
    ]
    for backend, result in results.items():
        faults = result["faults"]
        targets = {name for name, *_ in faults}
        missed = {name for name, _, message in faults if not message}
        false = [row["name"] for row in result["right"] if row["false"]]
        times = sorted(row["seconds"] for row in result["right"])
        lines.append(
            f"| {backend} | {len(targets) - len(missed)} of {len(targets)} | "
            f"{len(false)} of {len(times)} {', '.join(false)} | "
            f"{times[len(times) // 2]:.1f}, {times[-1]:.1f} |"
        )
    lines += ["", "True faults of TFP that were found, by backend:", ""]
    for backend, result in results.items():
        true = [
            f"`{row['name']}` ({', '.join(row['true'])})"
            for row in result["right"]
            if row["true"]
        ]
        lines.append(f"- {backend}: {'; '.join(true)}.")
    return lines


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=(), help="targets")
    parser.add_argument("--backends", nargs="*", default=["tensorflow", "jax"])
    parser.add_argument("--json", default="/tmp/kit-{}.json")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument(
        "--tables", action="store_true", help="from what was measured before"
    )
    arguments = parser.parse_args()
    if arguments.measure:
        backend = os.environ["KERAS_BACKEND"]
        path = arguments.json.format(backend)
        measure(arguments.seeds, arguments.only, path)
        return
    results = {}
    for backend in arguments.backends:
        path = arguments.json.format(backend)
        if not arguments.tables:
            command = [sys.executable, *sys.argv, "--measure"]
            env = os.environ | {"KERAS_BACKEND": backend}
            subprocess.run(command, env=env, check=True)
        results[backend] = json.loads(pathlib.Path(path).read_text())
    lines = tables(results)
    print("\n".join(lines))
    if arguments.out:
        page = arguments.out.read_text()
        head = page.split(MARK)[0]
        arguments.out.write_text(head + MARK + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
