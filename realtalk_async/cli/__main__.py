"""Run the command line as ``python -m realtalk_async.cli``."""

from realtalk_async.cli import main

if __name__ == "__main__":
    main()
