"""From a YAML file to a checked spec or suite. Knows components by their records, never what they do."""
