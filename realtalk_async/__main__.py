"""Run the command line as ``python -m realtalk_async``."""

from realtalk_async.cli import main

if __name__ == "__main__":
    main()
