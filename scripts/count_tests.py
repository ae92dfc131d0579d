"""Reads ctest's JUnit file and prints the closing line of a test run: `N passed, N failed`. Exits 1 on a failure or when
no test ran."""
import sys
import xml.etree.ElementTree as ElementTree

passed = failed = skipped = 0
for case in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
    status = case.get("status")
    if case.find("skipped") is not None or status in ("notrun", "disabled"):
        skipped += 1
    elif status == "run" and case.find("failure") is None:
        passed += 1
    else:
        failed += 1
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed or not passed else 0)
