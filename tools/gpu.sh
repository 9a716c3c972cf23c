#!/bin/sh
# Add TensorRT and cuda-python to the environment $1 where an NVIDIA GPU is; never stop the course for want of them.
set -u
venv=${1:-.venv}
log=$venv/gpu-install.log

if ! { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; } &&
    [ ! -e /dev/nvidia0 ] && [ ! -d /proc/driver/nvidia/gpus ]; then
    echo "No NVIDIA GPU here: the course shows what was recorded on one."
    exit 0
fi
echo "NVIDIA GPU found: installing TensorRT and cuda-python (1 to 2 GB) …"
if "$venv/bin/python" -m pip install -qq --disable-pip-version-check -e '.[gpu]' >"$log" 2>&1; then
    exit 0
fi
echo "TensorRT could not be installed (see $log): the course goes on with what was recorded." \
    "Try later: $venv/bin/pip install -e '.[gpu]'"
