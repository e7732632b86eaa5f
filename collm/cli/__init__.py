"""The command line, one module per command. Only this layer prints and reads the environment or working directory."""
