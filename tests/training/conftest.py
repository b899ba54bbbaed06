import os
import socket
from pathlib import Path

import pytest


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def synced_and_renamed(monkeypatch):
    """Notes, in order, that a file was synced to the disk and that one was renamed."""
    done = []

    def noting(word, do):
        def note_and_do(*arguments):
            done.append(word)
            return do(*arguments)

        return note_and_do

    monkeypatch.setattr(os, "fsync", noting("synced", os.fsync))
    monkeypatch.setattr(Path, "replace", noting("renamed", Path.replace))
    return done
