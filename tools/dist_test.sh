#!/usr/bin/env bash
# Tests CHECKPOINT in PROCESSES processes of this machine: one a GPU, or on the CPU where there is none.
#
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
#
# On several machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR and perhaps PORT in the environment.
set -euo pipefail

if [ $# -lt 3 ] || ! [[ $3 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]" >&2
  exit 2
fi

if [ "${NNODES:-1}" -eq 1 ] && [ -z "${PORT:-}" ]; then
  where=(--standalone) # a free port, so that several runs fit on a machine
else
  where=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}"
    --master_port "${PORT:-29500}")
fi
# Processes that each take all cores stall one another.
threads=$(($(nproc) / $3))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}

exec "${PYTHON:-python}" -m torch.distributed.run "${where[@]}" --nproc_per_node "$3" \
  "$(dirname "${BASH_SOURCE[0]}")/test.py" "$1" "$2" --launcher pytorch "${@:4}"
