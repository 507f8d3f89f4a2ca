"""Reads JUnit reports: client by upstream, how many cases passed and failed; why some cases cannot be; and the sum.

A case passes, fails, or says why it cannot be with that client and that upstream: a skip that begins with "cannot: ",
which is counted apart and told. Any other skip is a failure, as is a report that is not there.
"""

import sys
import xml.etree.ElementTree as xml
from collections import Counter

CANNOT = "cannot: "
NONE = "other"


def cases(report):
    """Each case of a report: its name, "passed", "failed" or why it cannot be."""
    if not report.exists() or not report.stat().st_size:
        return
    for case in xml.parse(report).iter("testcase"):
        verdict = "passed"
        for part in case:
            if part.tag == "skipped" and (part.get("message") or "").startswith(CANNOT):
                verdict = part.get("message").removeprefix(CANNOT)
            elif part.tag in ("failure", "error", "skipped"):
                verdict = "failed"
        yield f"{case.get('classname')} {case.get('name')}", verdict


def column(name, columns):
    """The upstream that a case names; the hosted and the unnamed ones are counted together."""
    return next((upstream for upstream in sorted(columns, key=len, reverse=True) if upstream in name), NONE)


def show(reports, columns, broken):
    """Prints the table, the reasons and the sum; the exit status."""
    heads = [head.removeprefix("sim-") for head in columns] + [NONE, "all"]
    widths = [max(len(head), 7) + 2 for head in heads]
    print("\npassed/failed" + " " * 13 + "".join(f"{head:>{width}}" for head, width in zip(heads, widths)))
    all_passed = all_failed = 0
    cannot = Counter()
    for report in reports:
        passed, failed = Counter(), Counter()
        for name, verdict in cases(report):
            where = column(name, columns)
            if verdict == "passed":
                passed[where] += 1
            elif verdict == "failed":
                failed[where] += 1
                print(f"  failed: {report.stem} {name}", file=sys.stderr)
            else:
                cannot[report.stem, where, verdict] += 1
        if not passed.total() + failed.total():
            failed[NONE] += 1
            print(f"  failed: {report.stem} has no report", file=sys.stderr)
        elif report.stem in broken and not failed:
            failed[NONE] += 1
            print(f"  failed: {report.stem} ended badly although its tests passed", file=sys.stderr)
        counts = [(passed[head], failed[head]) for head in [*columns, NONE]] + [(passed.total(), failed.total())]
        cells = [f"{good}/{bad}" if good or bad else "-" for good, bad in counts]
        print(f"{report.stem:<26}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths)))
        all_passed, all_failed = all_passed + passed.total(), all_failed + failed.total()
    reasons(cannot)
    print(f"{all_passed} passed, {all_failed} failed")
    return 1 if all_failed or broken else 0


def reasons(cannot):
    """What is left out, and why: one line for each reason of a suite."""
    if cannot:
        print("\nnot asked, because it cannot be:")
    for suite, why in sorted({(suite, why) for suite, _, why in cannot}):
        where = [f"{head.removeprefix('sim-')} {count}" for (of, head, of_why), count in sorted(cannot.items()) if (of, of_why) == (suite, why)]
        print(f"  {suite}: {why} ({', '.join(where)})")
    print()
