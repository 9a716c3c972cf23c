#!/bin/sh
# Make the virtual environment $1 (default .venv) with a Python from 3.10 to 3.14; one clear line where that cannot be.
# Where the system's Python has TensorRT (a Jetson, NVIDIA's containers), the environment sees it and keeps its numpy's ABI.
# PYTHON=/path/to/python chooses one. TRTLEARN_ROOT is the root of a made-up machine, for tests.
set -u
venv=${1:-.venv}
tegra=${TRTLEARN_ROOT:-}/etc/nv_tegra_release

fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; }
version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null; }

# Whether Python $1 has a TensorRT of the system's, not the user's.
has_tensorrt() {
    case $("$1" -s -c 'import importlib.util as u; s = u.find_spec("tensorrt"); print(s and s.origin or "")' 2>/dev/null) in
    /*) return 0 ;;
    *) return 1 ;;
    esac
}

# Whether the environment that is there sees the system's packages, as it must.
sees_system() { grep -qs 'include-system-site-packages = true' "$venv/pyvenv.cfg"; }

# 3.14 comes last: TensorRT below 11 has no wheel for it
candidates=${PYTHON:-python3.13 python3.12 python3.11 python3.10 python3.14 python3 python}
system=""
for python in $candidates; do
    command -v "$python" >/dev/null 2>&1 && fits "$python" && has_tensorrt "$python" && system=$python && break
done

[ -x "$venv/bin/python" ] && fits "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
    { [ -z "$system" ] || sees_system; } && exit 0

release=""
[ -f "$tegra" ] && read -r release <"$tegra"
case $release in
"# R32 "* | "# R34 "* | "# R35 "*)
    echo "JetPack 4 and 5 have TensorRT for Python 3.6 and 3.8 only, trtlearn needs 3.10: the course shows what was recorded." ;;
esac

no_ensurepip=""
for python in ${system:-$candidates}; do
    command -v "$python" >/dev/null 2>&1 && fits "$python" || continue
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        no_ensurepip=${no_ensurepip:-$python}  # Debian and Ubuntu keep it in a package of its own
        continue
    fi
    echo "Python $(version "$python") -> $venv${system:+, with the system's TensorRT}"
    rm -rf "$venv"
    if "$python" -m venv ${system:+--system-site-packages} "$venv"; then
        [ -z "$system" ] && exit 0
        # pip reads pip.conf of its environment: no package may bring another numpy than the system's were built for
        exec "$venv/bin/python" - "$venv" <<'END'
import pathlib, sys
from importlib import metadata

venv = pathlib.Path(sys.argv[1]).resolve()
try:
    major = int(metadata.version("numpy").split(".")[0])
except metadata.PackageNotFoundError:
    sys.exit(0)
(venv / "constraints.txt").write_text(f"numpy>={major},<{major + 1}\n")
(venv / "pip.conf").write_text(f"[global]\nconstraint = {(venv / 'constraints.txt').as_uri()}\n")
END
    fi
    echo "error: $python -m venv $venv failed. Try: a folder that you may write to, with 2 GB free" >&2
    exit 1
done

if [ -n "$no_ensurepip" ]; then
    short=$("$no_ensurepip" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "error: Python $short is here, its venv module is not. Try: sudo apt install python$short-venv" >&2
else
    found=$(version "${PYTHON:-python3}")
    echo "error: trtlearn needs Python 3.10 to 3.14, found ${found:-none}." \
        "Try: sudo apt install python3 python3-venv, or make PYTHON=/path/to/python3.12" >&2
fi
exit 1
