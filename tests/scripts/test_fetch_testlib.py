"""scripts/fetch-testlib without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


def test_a_file_with_another_checksum_is_refused(tmp_path: Path):
    wrong = tmp_path / "wrong.h"
    wrong.write_text("#error\n")
    target = tmp_path / "cache" / "testlib.h"
    done = subprocess.run(
        [ROOT / "scripts" / "fetch-testlib", target],
        env={**os.environ, "TESTLIB_URL": wrong.as_uri()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{wrong.as_uri()} has the wrong SHA-256" in done.stderr
    assert list(target.parent.iterdir()) == []
