"""Published files: downloaded once, resumed, checked, recorded."""
