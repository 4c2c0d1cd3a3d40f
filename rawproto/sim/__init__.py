"""A network in virtual time: any RPT endpoint over impaired links, the same for the same seed."""
