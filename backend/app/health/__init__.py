"""Whether all is well, by parts: signs are read, judged in one place, and what is wrong is kept as incidents."""
