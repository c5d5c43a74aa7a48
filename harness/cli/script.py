"""The console script `samiro-bench`. Nothing is imported before Ctrl-C is taken: on a cold disk the menu takes a second to load."""

import sys


def script() -> None:
    """Run the command line; Ctrl-C while it is loaded ends it quietly with 130, as shells have it."""
    try:
        from harness.cli.main import console

        console()
    except KeyboardInterrupt:
        print("samiro-bench: stopped", file=sys.stderr)
        sys.exit(130)
