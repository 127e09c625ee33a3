"""How far tests speak for a response: agreement with tests of others, mutants that they kill, code that they run."""
