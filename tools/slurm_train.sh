#!/usr/bin/env bash
# Trains CONFIG on a Slurm cluster, one task per GPU. slurm_test.sh reads this file, and calls tools/test.py.
#
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS="--time 1:00:00"] \
#     tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
set -euo pipefail

case ${0##*/} in *test*) tool=test.py files=2 names='CONFIG CHECKPOINT' ;; *) tool=train.py files=1 names=CONFIG ;; esac
if [ $# -lt $((files + 2)) ]; then
  echo "usage: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...]" \
    "$0 PARTITION JOB_NAME $names [arguments of tools/$tool]" >&2
  exit 2
fi

for name in GPUS GPUS_PER_NODE CPUS_PER_TASK; do
  if ! [[ ${!name:-1} =~ ^[1-9][0-9]*$ ]]; then
    echo "error: $name expects a whole number from 1 up, got '${!name}'; correct it" >&2
    exit 2
  fi
done

gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
per_node=$((per_node < gpus ? per_node : gpus))
read -ra srun_args <<<"${SRUN_ARGS:-}"

exec srun --partition "$1" --job-name "$2" --ntasks "$gpus" --ntasks-per-node "$per_node" \
  --gres "gpu:$per_node" --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  ${srun_args[@]+"${srun_args[@]}"} \
  "${PYTHON:-python}" -u "$(dirname "${BASH_SOURCE[0]}")/$tool" "${@:3:files}" --launcher slurm "${@:files + 3}"
