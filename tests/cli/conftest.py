import subprocess
import sys

import pytest

TIMEOUT = 60


@pytest.fixture
def begin(tmp_path):
    """Return a function that begins a command in an empty folder; end all at the end."""
    begun = []

    def start(*arguments, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        command = (sys.executable, "-m", "realtalk_async.cli", *arguments)
        one = subprocess.Popen(command, cwd=tmp_path, **options)
        begun.append(one)
        return one

    yield start
    for one in begun:
        one.terminate()
        try:
            one.wait(TIMEOUT)
        finally:
            one.kill()
            one.wait()
            if one.stdout:
                one.stdout.close()
