#!/usr/bin/env python3
"""Sums up a CTest run as "N passed, N failed, N skipped" and names what failed. A CTest test that
left a report of its cases (GoogleTest's or pytest's XML) counts with its cases, others count as one.

usage: test_summary.py CTEST_JUNIT_XML FOLDER_OF_CASE_REPORTS
"""

import collections
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    """passed, failed or skipped: what a testcase element of any of the three writers says."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    skipped = case.find("skipped")
    if skipped is not None and "Unable to find executable" in skipped.get("message", ""):
        return "failed"
    if skipped is not None or case.get("status") in ("notrun", "disabled"):
        return "skipped"
    return "passed"


def cases(path):
    """(name, outcome) of every case in a report; none where it is missing or cut short."""
    try:
        found = ElementTree.parse(path).iter("testcase")
        return [(f"{c.get('classname')}.{c.get('name')}", outcome(c)) for c in found]
    except (OSError, ElementTree.ParseError):
        return []


def main():
    report, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    counts, failures = collections.Counter(), []
    tests = cases(report)
    for name, result in tests:
        name = name.rsplit(".", 1)[-1]
        inner = [] if result == "skipped" else cases(folder / f"{name}.xml")
        if result == "failed" and not any(r == "failed" for _, r in inner):
            inner.append(("(the test as a whole)", "failed"))
        for case, inner_result in inner or [(name, result)]:
            counts[inner_result] += 1
            if inner_result == "failed":
                failures.append(f"  {name}: {case}")
    if not tests:
        counts["failed"] += 1
        failures.append(f"  no test ran: {report} is missing")
    if failures:
        print("Failed:", *failures, sep="\n")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
