"""Dead letters: kept with their reasons, closed by what comes right, sent again."""
