#!/usr/bin/env bash
# Makes the Python environment of the acceptance tests: the programs that people open our exports
# with, from PyPI, over Debian's PyTorch.
#
# Usage: tests/clients/environment.sh DIR
#
# Makes DIR/clients and, where PyTorch is, DIR/compressed, whose packages would fetch another one.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/../../scripts/common.sh"

target=${1:?usage: environment.sh DIR}

# make NAME PACKAGES...: DIR/NAME, left alone when it already holds these versions.
make() {
  local environment=$target/$1
  shift
  local stamp=$environment/installed.txt
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$*" ]; then return 0; fi
  say "making $environment for the acceptance tests"
  rm -rf "$environment"
  quietly "$environment.log" /usr/bin/python3 -m venv --system-site-packages "$environment"
  quietly "$environment.log" "$environment/bin/pip" install --no-cache-dir \
    --disable-pip-version-check "$@"
  printf '%s' "$*" > "$stamp"
}

# 4.44 is the last line of transformers that runs whole on Debian 12's PyTorch 1.13; 4.47 runs as
# far as loading compressed tensors needs.
make clients transformers==4.44.2 tokenizers==0.19.1 'numpy<2' safetensors==0.5.3 gguf==0.19.0 \
  libgguf==0.2.2 xllamacpp==2026.10.11549
if ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then
  say "no PyTorch for /usr/bin/python3: the tests that open models with it will be skipped"
  exit 0
fi
make compressed transformers==4.47.1 tokenizers==0.21.4 'numpy<2' safetensors==0.5.3 \
  compressed-tensors==0.12.2 accelerate==1.0.1 pydantic==2.10.6 'typing_extensions>=4.15' loguru
