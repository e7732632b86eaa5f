"""Speed, memory and share of the machine's peak of a spec, beside the plain loop that the same work usually runs in."""
