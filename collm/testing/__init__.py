"""Contract suites that plugin authors subclass, and tiny fakes. Of the harness only `collm plugin check` imports it."""
