"""Published formats: how other libraries name and store the same weights."""
