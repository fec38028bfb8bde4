#!/usr/bin/env bash
# Regenerates every figure: makes the environment if there is none, then runs what is missing.
# ./run_all.sh --help says what it can do.
set -euo pipefail

# Folders that the caller names are the caller's, not relative to this one.
for folder in MODALITY_GAP_CACHE MODALITY_GAP_DATA MODALITY_GAP_FIGURES; do
  case ${!folder:-/} in /* | "~"*) ;; *) export "$folder=$PWD/${!folder}" ;; esac
done
export MODALITY_GAP_CALLED_FROM=$PWD  # what files on the command line are relative to
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

# The first Python of this machine that the project supports.
suitable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
python=
found=
for name in python3 python python3.13 python3.12 python3.11; do
  command -v "$name" >/dev/null || continue
  if "$name" -c "$suitable" 2>/dev/null; then
    python=$name
    break
  fi
  found=${found:-$("$name" --version 2>&1)}
done
if [[ -z $python ]]; then
  echo "run_all.sh: this needs Python 3.11, 3.12 or 3.13, and ${found:-no Python} was found:" \
    "install one of them, and run it again." >&2
  exit 1
fi

unset PYTHONHOME PYTHONSAFEPATH
"$python" -m workflow.cli --check "$@" || exit
case " $* " in *" -h "* | *" --help "*) exit 0 ;; esac
environment=$("$python" -m workflow.environment)
exec "$environment" -m workflow.cli "$@"
