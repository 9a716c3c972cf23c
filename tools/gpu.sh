#!/bin/sh
# Add what the environment $1 lacks for builds on this machine's GPU; never stop the course for want of it.
# A TensorRT that the environment sees is used, and nothing is installed in its place.
# TRTLEARN_ROOT is the root of a made-up machine, for tests.
set -u
venv=${1:-.venv}
log=$venv/gpu-install.log
root=${TRTLEARN_ROOT:-}

on_jetson() { [ -f "$root/etc/nv_tegra_release" ]; }
driver_cuda() { nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9][0-9]*\).*/\1/p' | head -n 1; }
toolkit_cuda() {
    sed -n '/"cuda"/,/}/s/.*"version" *: *"\([0-9][0-9]*\)\..*/\1/p' "$root/usr/local/cuda/version.json" 2>/dev/null | head -n 1
}

if ! on_jetson && ! { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; } &&
    [ ! -e /dev/nvidia0 ] && [ ! -d /proc/driver/nvidia/gpus ]; then
    echo "No NVIDIA GPU here: the course shows what was recorded on one."
    exit 0
fi

there=$("$venv/bin/python" -c 'import tensorrt as t; print("TensorRT", t.__version__, "of", t.__path__[0])' 2>/dev/null)
if [ -n "$there" ]; then
    cuda=$(toolkit_cuda)
    [ -n "$cuda" ] || cuda=$(driver_cuda)
    echo "$there is used. Installing cuda-python ${cuda:-} beside it …"
    set -- "cuda-python${cuda:+==$cuda.*}"
elif on_jetson; then
    echo "This Jetson's Python $("$venv/bin/python" -c 'import platform; print(platform.python_version())') has no TensorRT," \
        "and pip's is not made for it: the course shows what was recorded." \
        "On JetPack 6 and 7: sudo apt install python3-libnvinfer, then rm -rf $venv and make lab."
    exit 0
else
    cuda=$(driver_cuda)
    echo "NVIDIA GPU found: installing TensorRT and cuda-python (1 to 2 GB) …"
    case $cuda in
    12) set -- 'tensorrt-cu12<11' 'cuda-python>=12.6,<13' ;;
    13) set -- 'tensorrt-cu13<11' 'cuda-python>=13,<14' ;;
    *) set -- -e '.[gpu]' ;;
    esac
fi
"$venv/bin/python" -m pip install -qq --disable-pip-version-check "$@" >"$log" 2>&1 && exit 0
echo "It could not be installed (see $log): the course goes on with what was recorded." \
    "Try later: $venv/bin/pip install $*"
"$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 14))' >/dev/null 2>&1 &&
    echo "pip has TensorRT below 11 for Python 3.13 and older: rm -rf $venv, then make lab PYTHON=python3.13"
exit 0
