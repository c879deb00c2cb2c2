#!/usr/bin/env bash
# The whole way from raw text to a model in a Hugging Face folder: curate, find the mixture, tokenize, train, export.
# As it stands: the quickstart's text and a new small model, some ten minutes on two CPU cores.
#
#   recipes/cpt.sh
#   RECIPE=my.yaml CONFIG=my_cpt.yaml OUTPUT=runs/my LAUNCH="torchrun --nproc-per-node 8 -m redone_train" recipes/cpt.sh
#
# Arguments are passed on to the training (--set batch.rows=128). Every step goes on where it was: after a stop or a crash
# the same command is all there is to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

recipe=${RECIPE:-recipes/quickstart.yaml}        # raw text -> token dataset and held-out pools
config=${CONFIG:-recipes/train/cpt_tiny.yaml}    # token dataset -> checkpoints
output=${OUTPUT:-runs/cpt_tiny}                  # of the configuration
launch=${LAUNCH:-redone-train}

redone-data mix "$recipe"
$launch cpt "$config" "$@"
[ -e "$output/model" ] || redone-train export "$output" "$output/model"
