#!/bin/sh
# Install dist/'s wheel into a fresh environment, and let it pass the tests of dist/'s source package.
set -eu
python=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install -qq --disable-pip-version-check "$(ls "$PWD"/dist/*.whl)[test]"
tar -xzf dist/*.tar.gz -C "$scratch" --strip-components=1
cd "$scratch"
venv/bin/trtlearn doctor
venv/bin/pytest -q -n 2 --dist loadgroup -p no:cacheprovider tests
