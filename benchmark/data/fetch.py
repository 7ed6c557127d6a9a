"""Download what may be downloaded: the official CIFAR archives."""

from __future__ import annotations

import tarfile
from pathlib import Path
from urllib.error import URLError

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory
from benchmark.data.datasets import dataset_info

_SITE = "https://www.cs.toronto.edu/~kriz"
ARCHIVES = {
    "cifar10": (f"{_SITE}/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": (f"{_SITE}/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
}


def download_folder(data_dir: Path) -> Path:
    """Return where downloaded archives and their contents lie."""
    return data_dir / "downloads"


def fetch(name: str, data_dir: Path) -> Path:
    """Download and unpack the official archive of ``name``; return the folder it lies in.

    An archive that is there already and intact is not downloaded again. Raises UserError for a
    dataset that has no public archive, without a network, and for a damaged download.
    """
    info = dataset_info(name)
    if name not in ARCHIVES:
        why = {
            "digits": "it comes with scikit-learn",
            "folders": "its images must be obtained from its publisher",
            "own": "it is your own",
        }[info.kind]
        raise UserError(f"{name} is not downloaded ({why}); make it with: {info.write_command}")
    from benchmark.base.torchvision_shim import make_torchvision_importable

    make_torchvision_importable()
    from torchvision.datasets.utils import download_and_extract_archive

    url, md5 = ARCHIVES[name]
    folder = download_folder(data_dir)
    make_directory(folder)
    try:
        download_and_extract_archive(url, str(folder), md5=md5)
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot download {url}: {reason}; offline, copy {Path(url).name} to {folder} and"
            " run this again"
        ) from error
    except (OSError, RuntimeError, tarfile.TarError) as error:
        raise UserError(f"downloading {url} to {folder} failed: {error}") from error
    return folder
