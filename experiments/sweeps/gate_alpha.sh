#!/usr/bin/env bash
# Question: which false-alarm rate of the gate lets the whole system name most defects right? 12 jobs; detectors and
# training are shared, for only the threshold differs.
# SMALL=1 tries it on the embedded textures within minutes; further words go to every job, hydra/launcher=slurm too.
set -euo pipefail
cd "$(dirname "$0")/../.."
grid=(gate.alpha=0.02,0.05,0.1,0.2 seed=0,1,2)
[[ -z "${SMALL:-}" ]] || grid=(debug=fast gate.alpha=0.2,0.3)
exec "${PYTHON:-python}" -m velm_train --multirun name=gate_alpha "${grid[@]}" "$@"
