"""RPT/1, sans-IO: what docs/transport-spec.md says. `endpoint` is where to begin."""
