"""The recipe that ``redone-data init`` writes: the keys a newcomer needs, and why one would change them."""

STARTER_RECIPE = """\
# A recipe for redone-data. Try it with:  redone-data mix THIS_FILE --dry-run
# Paths are relative to this file. All keys: docs/recipe.md
output: runs/my-run          # the run's folder; --out overrides it
seed: 1                      # of every random choice: same recipe, same inputs, same bytes

domains:                     # the units of mixing: at least two
  notes:
    priority: 1              # of a text that is in two domains, the higher priority keeps it
    languages: [zh, en]      # leave out to allow any
    rules:
      preset: sns            # sns: short posts; prose: articles and books; gopher, c4, fineweb: web pages; none
      bounds:                # over the preset's; {} switches a rule off
        num_words: {min: 3}
    sources:
      - paths: ["data/notes-*.jsonl.zst"]      # jsonl, parquet, csv, json, text, warc, huggingface; .gz and .zst too
        fields:
          text: text                           # a dot reaches into nested records: note.body
          id: id                               # leave out when there is none
          engagement: [likes, comments]        # added up; of duplicates the one with more stays
          created_at: created_at
  wiki:
    rules: {preset: prose}
    sources:
      - paths: ["data/wiki.jsonl.gz"]

read:
  max_bad_fraction: 0.01     # more unreadable records than this stop the run
  # redact: [email, phone]   # default: every kind of personal data it knows

curate:
  near: {threshold: 0.5}     # Jaccard similarity of character 5-grams from which two posts are duplicates
  # contamination: {sets: {mine: {paths: ["eval/*.jsonl"]}}}   # documents that hold evaluation items go
  # quality: {ads: {model: models/ads}}      # from redone-data quality train; bound it: quality_ads: {min: 0.4}
  # index: seen                # from redone-data index add; what duplicates a document in it goes
  validation: {fraction: 0.02, max_documents: 2000}   # held out, for losses

tokens:
  budget: 100_000_000        # training tokens to sample
  tokenizer:
    path: null               # a tokenizer.json, a folder with one, or a hub name; null trains one on the corpus
    vocab_size: 32_000       # of a trained one

mix:
  targets: {notes: 1, wiki: 1}   # whose loss to lower, and how much it matters
  max_epochs: 4              # no domain is repeated more often
  # weights: {notes: 3, wiki: 1}               # fixed by hand: no proxies are trained
  # proposal: ../earlier/proposal.json         # or taken from an earlier run
  design: {runs: 32}         # proxy runs; 16 to 64 are usual
  swarm:
    proxy: {size: 1m, tokens: 2_000_000}
  validate: {seeds: 3}       # fresh seeds on which the answer is measured

executor: {kind: local, workers: 1}   # workers: one a core on a big machine; or kind: slurm, ray
"""
