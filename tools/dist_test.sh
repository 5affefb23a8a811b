#!/usr/bin/env bash
# Tests CHECKPOINT in PROCESSES processes; all else as dist_train.sh says.
#
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
source "$(dirname "${BASH_SOURCE[0]}")/dist_train.sh"
