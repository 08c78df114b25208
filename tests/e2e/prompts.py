"""Prompts whose domain is certain, with the domain."""

SQL = "Write an SQL query that lists the names of all customers, by name."
BIRDS = "Where does the heron build its nest?"
GENERAL = "Tell me something nice about the sea."

BY_DOMAIN = {"sql": SQL, "birds": BIRDS, "general": GENERAL}
