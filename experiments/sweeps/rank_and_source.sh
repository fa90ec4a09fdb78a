#!/usr/bin/env bash
# Question: which LoRA rank, with which source of the second look, names most defects right? 48 jobs.
# SMALL=1 tries it on the embedded textures within minutes; further words go to every job, hydra/launcher=slurm too.
# Optuna instead of all combinations: python -m velm_train --multirun hparams_search=rank_and_source
set -euo pipefail
cd "$(dirname "$0")/../.."
grid=(lora.r=4,8,16,32 look_twice=off,map,learned,fused seed=0,1,2)
[[ -z "${SMALL:-}" ]] || grid=(debug=fast lora.r=4,8 look_twice=off,fused)
exec "${PYTHON:-python}" -m velm_train --multirun name=rank_and_source "${grid[@]}" "$@"
