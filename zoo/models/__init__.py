"""One architecture per file, from token ids to logits."""
