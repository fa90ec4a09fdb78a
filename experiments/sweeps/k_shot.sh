#!/usr/bin/env bash
# Question: how many labelled defects of a type does naming need on MVTec-AC, and how much is the luck of the draw?
# 20 jobs: MVTEC_AC=/data/mvtec_ac experiments/sweeps/k_shot.sh
# SMALL=1 tries it on the embedded textures within minutes; further words go to every job, hydra/launcher=slurm too.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ -n "${SMALL:-}" ]]; then
  grid=(debug=fast dataset.synthesis.defects_seen=4 protocol.k_shot=1,2 seed=0,1)
else
  grid=(dataset=mvtec_ac "dataset.root=${MVTEC_AC:?the folder of MVTec-AC}" protocol.k_shot=1,2,4,8 seed=0,1,2,3,4)
fi
exec "${PYTHON:-python}" -m velm_train --multirun name=k_shot "${grid[@]}" "$@"
