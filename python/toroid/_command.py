"""The `toroid` command of an installed package: runs the program that lies beside this file."""
import os
import sys


def main() -> None:
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "toroid")
    os.execv(program, [program, *sys.argv[1:]])
