"""Contract suites that plugin authors subclass, and tiny fakes. Nothing in the harness imports it."""
