#!/usr/bin/env bash
# Tests CHECKPOINT on a Slurm cluster; all else as slurm_train.sh says.
#
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
source "$(dirname "${BASH_SOURCE[0]}")/slurm_train.sh"
