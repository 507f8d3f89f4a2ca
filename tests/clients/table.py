"""Reads JUnit reports and prints a row for each, and the sum as the last line.

Anything but a test that passed is a failure: skipped, failed, or a report that is not there.
"""

import sys
import xml.etree.ElementTree as xml
from pathlib import Path

broken, passed, failed = sys.argv[1] != "0", 0, 0
print(f"{'suite':<20}{'passed':>8}{'failed':>8}")
for report in map(Path, sys.argv[2:]):
    good = bad = 0
    cases = xml.parse(report).iter("testcase") if report.exists() and report.stat().st_size else ()
    for case in cases:
        if any(part.tag in ("failure", "error", "skipped") for part in case):
            bad += 1
            print(f"  failed: {report.stem} {case.get('name')}", file=sys.stderr)
        else:
            good += 1
    if good + bad == 0:
        bad = 1
        print(f"  failed: {report.stem} has no report", file=sys.stderr)
    print(f"{report.stem:<20}{good:>8}{bad:>8}")
    passed, failed = passed + good, failed + bad
if broken and not failed:
    failed = 1
    print("  failed: a suite ended badly although its tests passed", file=sys.stderr)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
