#!/usr/bin/env bash
# Runs on a CUDA machine what needs one, in less than 8 minutes: the tests of the kernels, then the benchmarks.
#
#   tools/benchmarks/gpu.sh [OUT]        default: benchmarks-out
# OUT gets speed.csv, profiles and log.txt; then: python tools/benchmarks/report.py OUT/speed.csv
# PYTHON names the interpreter (default python3). Outside a git checkout, MMCYCLEMLP_COMMIT names the commit.
set -euo pipefail
python=${PYTHON:-python3}
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "error: gpu.sh measures on a CUDA GPU, but $python has no PyTorch that sees one; on a CPU use" \
       "tools/benchmarks/cpu.sh" >&2
  exit 2
fi

out=${1:-benchmarks-out}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
deadline=470  # seconds for all of it

section() {  # TITLE LIMIT COMMAND...: what was measured before the limit is kept
  local title=$1 limit=$2 left=$((deadline - SECONDS)) code=0
  shift 2
  [ "$limit" -lt "$left" ] || limit=$left
  echo -e "\n== $title, $limit s at most; $SECONDS s so far"
  if [ "$limit" -lt 5 ]; then code=124; else timeout "$limit" "$@" || code=$?; fi
  case $code in
    0) ;;
    124) echo "error: '$title' was stopped after $limit s; what it had measured is kept" ;;
    *) echo "error: '$title' ended with code $code" ;;
  esac
  return "$code"
}

main() {
  local failed=0 code=0 parallel=()
  # Most of the time is compiling, on the processor.
  if "$python" -c 'import xdist' 2>/dev/null; then parallel=(-n auto); fi
  section 'tests of the kernels' 150 "$python" -m pytest "${parallel[@]}" tests/test_triton.py tests/test_cycle_fc.py \
    || code=$?
  [ "$code" = 0 ] || failed=1
  if [ "$code" != 0 ] && [ "$code" != 124 ]; then
    echo "error: the kernels did not pass their tests, so nothing is measured"
    return 1
  fi
  local measure=("$python" tools/benchmarks/models.py --device cuda --dtype bf16 --out "$out")
  local compiled=(--compile --seconds 2 --candidates b1 b1-linear 'resnet50 channels last')
  section 'one layer' 70 "${measure[@]}" --layers --train --seconds 0.3 \
    --candidates auto copy linear || failed=1
  section 'networks, inference' 60 "${measure[@]}" --seconds 3 || failed=1
  section 'networks, training step' 70 "${measure[@]}" --seconds 3 --train || failed=1
  section 'networks compiled, training step' 120 "${measure[@]}" --train "${compiled[@]}" || failed=1
  section 'networks compiled, inference' 80 "${measure[@]}" "${compiled[@]}" || failed=1
  section 'profile of a training step' 30 "${measure[@]}" --profile --train || failed=1
  section 'memory of a block' 30 "${measure[@]}" --memory || failed=1
  echo -e "\n== done in $SECONDS s"
  return "$failed"
}

main 2>&1 | tee "$out/log.txt"
