"""Sans-IO measurements: machines that drivers pump, and what they count."""
