#!/usr/bin/env bash
# Question: which family of vision-language models names most defects right behind the same gate? 15 jobs, each on a GPU
# but for the embedded one; the checkpoints have to be in the cache.
# SMALL=1 tries it with the embedded model and a tiny random one; further words go to every job.
set -euo pipefail
cd "$(dirname "$0")/../.."
grid=(trainer=gpu model=embedded,smolvlm_500m,internvl3_1b,qwen3_vl_2b,llava_onevision_0_5b seed=0,1,2)
[[ -z "${SMALL:-}" ]] || grid=(debug=fast model=embedded,tiny_smolvlm)
exec "${PYTHON:-python}" -m velm_train --multirun name=model_family "${grid[@]}" "$@"
