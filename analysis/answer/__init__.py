"""What a source says, before any evidence: two sentences, what to do, what could not be checked."""
