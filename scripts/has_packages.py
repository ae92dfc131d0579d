"""Exits 0 when this Python has every package named on its command line, in the version named where one is."""
import sys
from importlib.metadata import PackageNotFoundError, version

for wanted in sys.argv[1:]:
    name, _, number = wanted.partition("==")
    try:
        found = version(name)
    except PackageNotFoundError:
        sys.exit(1)
    if number and found.split("+")[0] != number:
        sys.exit(1)
