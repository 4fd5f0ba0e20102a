#!/usr/bin/env bash
# Runs an acceptance test in the environment that environment.sh made; exits 77 (skipped by ctest)
# where there is none: run.sh ENVIRONMENT SCRIPT ARGUMENTS...
set -euo pipefail
environment=$1
shift
if [ ! -f "$environment/installed.txt" ]; then
  echo "skipped: no clients from PyPI; tests/clients/environment.sh ${environment%/*} gets them"
  exit 77
fi
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$environment/bin/python" "$@"
