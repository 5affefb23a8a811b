#!/usr/bin/env bash
# Installs onedl-mmcv with its compiled operators into the environment of PYTHON.
#
#   tools/install/build_mmcv_ops.sh PYTHON REQUIREMENT
#   tools/install/build_mmcv_ops.sh .venv/bin/python onedl-mmcv==2.3.6
#
# The wheel is compiled once for each mmcv, torch, Python and device and kept in
# ${XDG_CACHE_HOME:-~/.cache}/mmcyclemlp. pip's own wheel cache is not used: it knows neither
# which torch a wheel was built against nor whether the operators are inside.
set -euo pipefail

if [ $# -ne 2 ]; then
  echo "usage: $0 PYTHON REQUIREMENT, for example $0 .venv/bin/python onedl-mmcv==2.3.6" >&2
  exit 2
fi
python=$1
requirement=$2

key=$("$python" -c '
import sys, torch
device = "cuda" if torch.cuda.is_available() else "cpu"
print(f"torch{torch.__version__}-cp{sys.version_info[0]}{sys.version_info[1]}-{device}")')
cache="${XDG_CACHE_HOME:-$HOME/.cache}/mmcyclemlp/${requirement//==/-}-$key"

if ! compgen -G "$cache/*.whl" >/dev/null; then
  jobs=$(nproc)
  echo "Compiling mmcv's operators for $key: about 6 minutes on 2 cores, here with $jobs jobs."
  echo "The wheel is kept in $cache, so this happens once."
  mkdir -p "$(dirname "$cache")"
  build=$(mktemp -d "$cache.XXXXXX")
  trap 'rm -rf "$build"' EXIT
  # ninja prints "[12/78] c++ ..." lines; only their counter is of interest.
  show_progress() {
    local counter
    while read -r counter; do
      case $counter in *[05]/*) echo "  compiled $counter" ;; esac
    done < <(grep --line-buffered -oE '\[[0-9]+/[0-9]+\]')
  }
  if ! MAX_JOBS=$jobs CFLAGS=-g0 "$python" -m pip wheel -v --no-build-isolation --no-deps --no-cache-dir \
      --no-binary onedl-mmcv --wheel-dir "$build/wheel" "$requirement" 2>&1 | tee "$build/log" | show_progress; then
    echo "The compilation failed; the end of its log:" >&2
    tail -n 40 "$build/log" >&2
    exit 1
  fi
  mv "$build/wheel" "$cache"
fi

"$python" -m pip install --quiet --no-deps --no-index --no-cache-dir --force-reinstall "$cache"/*.whl
"$python" -c 'import mmcv.ops, mmcv; print(f"mmcv {mmcv.__version__} with compiled operators: ready")'
