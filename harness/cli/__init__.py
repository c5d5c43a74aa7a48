"""The command line: a module a verb; torch is imported only in the verbs that need it."""
