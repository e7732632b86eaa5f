"""Reports: what is read from finished runs and shown to people. Nothing here trains or scores."""
