#!/bin/sh
# Make the virtual environment $1 (default .venv) with a Python from 3.10 to 3.13; one clear line where that cannot be.
# PYTHON=/path/to/python chooses one.
set -u
venv=${1:-.venv}

fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null; }

[ -x "$venv/bin/python" ] && fits "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 && exit 0

no_ensurepip=""
for python in ${PYTHON:-python3.13 python3.12 python3.11 python3.10 python3 python}; do
    command -v "$python" >/dev/null 2>&1 && fits "$python" || continue
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        no_ensurepip=${no_ensurepip:-$python}  # Debian and Ubuntu keep it in a package of its own
        continue
    fi
    echo "Python $(version "$python") -> $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv" && exit 0
    echo "error: $python -m venv $venv failed. Try: a folder that you may write to, with 2 GB free" >&2
    exit 1
done

if [ -n "$no_ensurepip" ]; then
    short=$("$no_ensurepip" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "error: Python $short is here, its venv module is not. Try: sudo apt install python$short-venv" >&2
else
    found=$(version "${PYTHON:-python3}")
    echo "error: trtlearn needs Python 3.10 to 3.13, found ${found:-none}." \
        "Try: sudo apt install python3 python3-venv, or make PYTHON=/path/to/python3.12" >&2
fi
exit 1
