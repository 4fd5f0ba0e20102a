#!/usr/bin/env bash
# Makes the Python environment of the acceptance tests: the programs that people open our exports
# with, from PyPI, over Debian's PyTorch.
#
# Usage: tests/clients/environment.sh DIR
#
# Does nothing when DIR already holds these versions.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/../../scripts/common.sh"

target=${1:?usage: environment.sh DIR}
# transformers 4.44 is the last line that runs on Debian 12's PyTorch 1.13.
packages=(transformers==4.44.2 tokenizers==0.19.1 'numpy<2' safetensors==0.5.3 gguf==0.19.0
  xllamacpp)

stamp=$target/installed.txt
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "${packages[*]}" ]; then exit 0; fi
say "making the environment of the acceptance tests in $target"
rm -rf "$target"
quietly "$target.log" /usr/bin/python3 -m venv --system-site-packages "$target"
quietly "$target.log" "$target/bin/pip" install --no-cache-dir --disable-pip-version-check \
  "${packages[@]}"
printf '%s' "${packages[*]}" > "$stamp"
