"""The command line `trtlearn`: each verb prints a table, or JSON with --json."""
