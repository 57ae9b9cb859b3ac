#!/bin/bash
# Make .venv from the locked versions, every package by its hash: setup.sh. Resolve them again: setup.sh lock.
# Uses uv; where there is none it is fetched into .venv, which needs Python's own venv module.
set -euo pipefail
cd "$(dirname "$0")/.."
uv_version=0.13.9 own_uv=.venv/uv/bin/uv

[ "${1:-}" = lock ] || echo "Making .venv from the locked versions (requirements.lock), once …" >&2
if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
  uv=uv
elif [ -x "$own_uv" ]; then
  uv=$own_uv
else
  python3 -m venv .venv || { echo "Install uv, or Python's venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --target .venv/uv "uv==$uv_version"
  uv=$own_uv
fi

if [ "${1:-}" = lock ]; then
  compile=("$uv" pip compile -q --universal --generate-hashes --no-annotate --no-header)
  "${compile[@]}" --group dev -o requirements.lock pyproject.toml
  "${compile[@]}" -c requirements.lock -o requirements-runtime.lock pyproject.toml
  "${compile[@]}" --group build -o requirements-build.lock
  exit
fi

[ -x .venv/bin/python ] || "$uv" venv --quiet --python '>=3.11' --no-python-downloads .venv
"$uv" pip sync --quiet --compile-bytecode --require-hashes --python .venv/bin/python requirements.lock
"$uv" pip install --quiet --compile-bytecode --no-deps --build-constraints requirements-build.lock --python .venv/bin/python --editable .
.venv/bin/python -m compileall -q mailstream streams api cli dev  # the first start is as fast as the second
touch .venv/ready
