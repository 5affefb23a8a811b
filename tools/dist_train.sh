#!/usr/bin/env bash
# Trains CONFIG in PROCESSES processes of this machine: one per GPU, or on the CPU if there is none.
#
#   tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
#
# On several machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR and perhaps PORT in the environment; each waits
# NODE_TIMEOUT seconds (default: 300) for the others. MAX_RESTARTS=N starts a run that fails up to N times again, and it
# goes on from its newest checkpoint.
# dist_test.sh reads this file, and calls tools/test.py with CHECKPOINT as well.
set -euo pipefail

case ${0##*/} in *test*) tool=test.py files=2 names='CONFIG CHECKPOINT' ;; *) tool=train.py files=1 names=CONFIG ;; esac
count=${*:files + 1:1}
if ! [[ $count =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 $names PROCESSES [arguments of tools/$tool]" >&2
  exit 2
fi

for name in NNODES NODE_RANK PORT MAX_RESTARTS NODE_TIMEOUT; do
  if ! [[ ${!name:-0} =~ ^[0-9]+$ ]]; then
    echo "error: $name expects a whole number, got '${!name}'; correct it" >&2
    exit 2
  fi
done
if [ "${NODE_RANK:-0}" -ge "${NNODES:-1}" ]; then
  echo "error: NODE_RANK expects 0 to NNODES - 1 = $((${NNODES:-1} - 1)), got ${NODE_RANK:-0}; correct one of them" >&2
  exit 2
fi

if [ "${NNODES:-1}" -eq 1 ] && [ -z "${PORT:-}" ]; then
  where=(--standalone) # a free port, so that several runs fit on a machine
else
  where=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}"
    --master_port "${PORT:-29500}")
fi
# Processes that each take all cores stall one another.
threads=$(($(nproc) / count))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}

exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/launch.py" "${where[@]}" --nproc_per_node "$count" \
  --max_restarts "${MAX_RESTARTS:-0}" --rdzv_conf "timeout=${NODE_TIMEOUT:-300}" \
  "$(dirname "${BASH_SOURCE[0]}")/$tool" "${@:1:files}" --launcher pytorch "${@:files + 2}"
