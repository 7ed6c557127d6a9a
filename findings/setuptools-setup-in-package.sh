#!/usr/bin/env bash
# setuptools 84.2.1: a package that lies beside setup.py (package_dir {"pkg.data": "."}) is built
# without setup.py by `python setup.py build`, as documented for distutils' build_py; the wheel that
# a front end builds of the same tree holds the script as pkg/data/setup.py. build_py leaves out the
# file that sys.argv[0] names, and under a PEP 517 front end that is the front end's.
#
# Expected: the same modules from both ways.
# Seen with setuptools 84.2.1, pip 25:
#   python setup.py build: pkg/data/__init__.py, pkg/data/other.py
#   pip wheel: pkg/data/__init__.py, pkg/data/other.py, pkg/data/setup.py
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "${SETUPTOOLS:-setuptools==84.2.1}"
mkdir "$folder/tree"
cd "$folder/tree"
touch __init__.py other.py
cat > pyproject.toml <<'TOML'
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
TOML
cat > setup.py <<'PYTHON'
from setuptools import setup

setup(name="pkg", version="1", packages=["pkg.data"], package_dir={"pkg.data": "."})
PYTHON
"$folder/venv/bin/python" setup.py --quiet build --build-base "$folder/plain"
"$folder/venv/bin/pip" wheel --quiet --no-build-isolation --no-deps --wheel-dir "$folder/wheels" .
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

folder = Path(sys.argv[1])
library = folder / "plain" / "lib"
plain = sorted(str(path.relative_to(library)) for path in library.rglob("*.py"))
(wheel,) = folder.glob("wheels/*.whl")
packed = sorted(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py"))
print("python setup.py build:", ", ".join(plain))
print("pip wheel:", ", ".join(packed))
as_seen = set(packed) - set(plain) == {"pkg/data/setup.py"} and set(plain) <= set(packed)
print("setuptools", version("setuptools"), "as described" if as_seen else "behaves otherwise now")
sys.exit(not as_seen)
PYTHON
