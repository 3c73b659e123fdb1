from __future__ import annotations

import pytest

from realtalk_async.offline.speech.libraries import load_library


def test_the_error_of_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(ImportError, match=r"pip install 'realtalk-async\[offline\]'"):
        load_library("soxr")
