#!/usr/bin/env bash
# Runs all benchmarks of a CPU in one go, in about a quarter of an hour on two quiet cores.
#
#   tools/benchmarks/cpu.sh [OUT [OPTION...]]        default: work_dirs/benchmarks; options such as --quick go to all
#
# OUT gets speed.csv, profiles and log.txt; then: python tools/benchmarks/report.py OUT/speed.csv
# PYTHON: as for gpu.sh.
set -euo pipefail
out=${1:-work_dirs/benchmarks}
shift $(($# > 0))
if compgen -G "$out/speed*.csv" >/dev/null; then
  echo "error: $out holds an earlier run, and a page shows one run on one commit; give another folder" >&2
  exit 2
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
measure() {
  echo -e "\n== $*; $SECONDS s so far"
  "${PYTHON:-python3}" tools/benchmarks/models.py --out "$out" "$@" || failed=1
}

main() {
  local failed=0 few=(--candidates b1 b1-linear 'resnet18 channels last')
  measure --seconds 30 "$@"
  measure --dtype bf16 "${few[@]}" "$@"
  measure --compile "${few[@]}" "$@"
  measure --train "${few[@]}" b1-original "$@"
  measure --layers --train "$@"
  measure --scaling --seconds 5 "$@"
  measure --memory "$@"
  measure --profile "$@"
  echo -e "\n== done in $SECONDS s"
  return "$failed"
}

main "$@" 2>&1 | tee "$out/log.txt"
