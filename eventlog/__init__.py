"""What happened: event types, append, read, integrity. Knows no LLM and no HTTP."""
