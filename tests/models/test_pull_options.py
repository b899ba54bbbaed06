"""Options of `models pull` that are wrong before anything is fetched, and what it says."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lensctl.cli.commands import app
from lensctl.errors import DownloadError, UsageError
from lensctl.models.convert.pull import pull
from lensctl.net import ATTEMPTS


@pytest.mark.parametrize("sha256", ["zz", "0" * 63, "g" * 64, "0" * 64 + "\n"])
def test_an_impossible_sha256_is_refused_at_once(sha256: str) -> None:
    with pytest.raises(UsageError, match="is no sha256") as caught:
        pull("http://127.0.0.1:9/x.pkl", sha256=sha256)
    assert caught.value.next_step


def test_every_retry_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("lensctl.models.convert.pull.models_home", lambda: tmp_path)
    result = CliRunner().invoke(app, ["models", "pull", "http://127.0.0.1:9/x.pkl"])
    assert isinstance(result.exception, DownloadError)
    assert result.stderr.count("trying again in") == ATTEMPTS - 1
    assert result.stdout == ""
