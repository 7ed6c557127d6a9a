#!/usr/bin/env bash
# Set up VENV (default .venv) with this project and all it needs; a second call does nothing.
# usage: scripts/install.sh [VENV]
# FFCV is built from source and needs system packages, which are installed through apt where
# that is permitted. Where it is not, everything else is installed and one line says so.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
stamp="$venv/.installed-$(cat setup.cfg setup.py constraints.txt scripts/install.sh | sha256sum | cut -c1-12)"
has_ffcv() { "$venv/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("ffcv") is None)'; }
have_native() {
  command -v g++ >/dev/null && pkg-config --exists opencv4 libturbojpeg 2>/dev/null &&
    "$venv/bin/python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}
# Without FFCV the set-up is done, too, until its packages are there.
[ -e "$stamp" ] && { has_ffcv || ! have_native; } && exit 0

say() { echo "install: $*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_apt() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq >/dev/null 2>&1 || true
  as_root apt-get install -yqq --no-install-recommends "$@" >/dev/null 2>&1
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null || { say "no $python here; install Python 3.11 or newer"; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { say "$($python --version) is too old; set PYTHON to Python 3.11 or newer"; exit 2; }

if [ ! -x "$venv/bin/pip" ]; then
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian and Ubuntu keep venv in a package of its own.
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    may_apt && apt_install "python$version-venv" ||
      { say "Python's venv module is missing; install python$version-venv"; exit 2; }
  fi
  say "making the virtual environment $venv"
  "$python" -m venv "$venv"
fi
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

say "installing torch, torchvision, timm and the rest (a few minutes)"
pip install -q -c constraints.txt -e '.[dev]'

# FFCV is worth having, but nothing else depends on it.
if ! has_ffcv; then
  needs=(libopencv-dev libturbojpeg0-dev pkg-config g++ python3-dev)
  why="apt is not permitted here"
  if ! have_native && may_apt; then
    say "installing FFCV's system packages"
    apt_install "${needs[@]}" || why="installing them through apt failed"
    why=${why/apt is not permitted here/they are still not found}
  fi
  if have_native; then
    say "building FFCV"
    if ! pip install -q -c constraints.txt -e '.[ffcv]' 2>"$venv/ffcv.log"; then
      say "FFCV could not be built (see $venv/ffcv.log); everything but reading ImageNet works"
    fi
  else
    say "FFCV is left out, since it needs ${needs[*]} ($why); everything but reading ImageNet works"
  fi
fi
touch "$stamp"
say "done"
