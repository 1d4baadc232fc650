"""Pairs of texts in the forms that the commands take them."""

from train.data.sources import parallel_text


def pairs(files, fields=None):
    """Two line files, or one .tsv or .jsonl whose `fields` are source and target: a Source."""
    if len(files) > 2:
        raise ValueError(f"pairs stand in two files of lines or in one table, not in {len(files)}")
    if len(files) == 2:
        if fields:
            raise ValueError("--fields are for a .jsonl, which holds both sides")
        return parallel_text.lines(*files)
    (file,) = files
    return parallel_text.table(file, fields)
