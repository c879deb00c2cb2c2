import os

# Arrow's allocator would give freed memory back after 10 ms and get it anew, zeroed, for the next batch: a tenth of all
# CPU time of curation. It reads this when pyarrow is first imported.
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")
