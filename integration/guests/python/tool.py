"""Proves: a `wasi:cli/command` component made from Python (CPython inside) sees the container's arguments, environment
and files through Python's own library, and ends with the exit code it asks for, by WASI's `exit-with-code`. See USAGE.
"""

import os
import sys
import time

from wit_world import exports
from wit_world.imports import exit as wasi_exit

USAGE = """\
usage: tool-python COMMAND [ARGUMENT...]; without a command: print one line and exit
  args [ANY...]    print the arguments, one a line, as argv[N]=VALUE
  env              print the environment, one NAME=VALUE a line
  cat FILE         copy FILE to stdout
  write FILE TEXT  make or replace FILE with TEXT and a newline
  sleep SECONDS    sleep; fractions are allowed
  exit N           exit with code N
  raise TEXT       raise an error with TEXT
"""


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit code."""
    match argv[1:]:
        case []:
            print("hello from python")
        case ["args", *_]:
            for at, value in enumerate(argv):
                print(f"argv[{at}]={value}")
        case ["env"]:
            for name, value in os.environ.items():
                print(f"{name}={value}")
        case ["cat", path]:
            with open(path, encoding="utf-8") as file:
                sys.stdout.write(file.read())
        case ["write", path, text]:
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["exit", code]:
            return int(code)
        case ["raise", text]:
            raise RuntimeError(text)
        case _:
            sys.stderr.write(USAGE)
            return 2
    return 0


class Run(exports.Run):
    """The component's export."""

    def run(self) -> None:
        try:
            code = main(sys.argv)
        except Exception as error:  # whatever it is, it is told and is the guest's failure
            print(f"tool-python: {error}", file=sys.stderr)
            code = 1
        sys.stdout.flush()
        # `run` itself can only tell success from failure.
        wasi_exit.exit_with_code(code)
