"""A race: language models of seventy years, trained on one text with one tokenizer and budget."""
